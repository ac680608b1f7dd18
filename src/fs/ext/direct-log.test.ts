import { beforeEach, expect, it } from "vitest";
import { makeTestCore, superblockWith, type TestCore } from "../../../test/support/ext-core.ts";
import { REQ_OP_FLUSH, REQ_OP_WRITE } from "../../block/bio.ts";
import { VirtualClock } from "../../lib/clock.ts";
import { DirectLog } from "./direct-log.ts";
import { FixedBlocks } from "./fixed-blocks.ts";
import { ExtTransactions } from "./transactions.ts";

let test: TestCore;
let trace: string[];
let clock: VirtualClock;
let transactions: ExtTransactions;
beforeEach(() => {
  test = makeTestCore(superblockWith());
  trace = [];
  clock = new VirtualClock();
  const { metadata, bdev } = test.core;
  bdev.log = ({ op, offsetBytes, lengthBytes }) => {
    if (op === 1) trace.push(`${offsetBytes / 1024} x${lengthBytes / 1024}`);
  };
  const readFixed = async (): Promise<FixedBlocks> =>
    new FixedBlocks([
      [100, 10],
      [0, 8],
      [50, 1],
    ]);
  transactions = new ExtTransactions({
    metadata,
    clock,
    makeLog: (table) => new DirectLog(bdev, table, 1024, readFixed),
  });
});

it("writes what is pointed to, then what owns it, then the names; neighbours at once", async () => {
  await transactions.run((handle) => {
    handle.write(300).fill(1); // A directory.
    handle.write(105).fill(1); // An inode table.
    handle.create(401).fill(1);
    handle.create(400).fill(1);
    handle.write(50).fill(1); // A bitmap.
    handle.write(104).fill(1);
  });
  await transactions.commit();
  expect(trace).toEqual(["400 x2", "50 x1", "104 x2", "300 x1"]);
  expect(test.block(401)[5]).toBe(1);
});

it("writes a block that was new in an earlier commit with those of its kind", async () => {
  await transactions.run((handle) => void handle.create(400).fill(1));
  await transactions.commit();
  trace.length = 0;
  await transactions.run((handle) => {
    handle.write(400).fill(2);
    handle.write(105).fill(2);
  });
  await transactions.commit();
  expect(trace).toEqual(["105 x1", "400 x1"]);
});

it("makes data durable before what leads to it, also data that is written already", async () => {
  const { bdev } = test.core;
  const submit = bdev.submitBio.bind(bdev);
  const names = new Map([
    [REQ_OP_FLUSH, "flush"],
    [REQ_OP_WRITE, "write"],
  ]);
  bdev.submitBio = (bio, plug) => {
    const name = names.get(bio.op);
    if (name !== undefined) trace.push(name);
    submit(bio, plug);
  };
  bdev.log = undefined;
  await transactions.run((handle) => {
    handle.write(105).fill(1);
    handle.orderIo()();
  });
  await transactions.commit();
  expect(trace).toEqual(["flush", "write", "flush"]);
  trace.length = 0;
  await transactions.run((handle) => void handle.write(105).fill(2));
  await transactions.commit();
  expect(trace).toEqual(["write", "flush"]);
});

it("does not write what was freed, and gives it back at the end", async () => {
  const told: string[] = [];
  await transactions.run((handle) => void handle.write(300).fill(1));
  await transactions.run((handle) => {
    handle.forget(300, 1);
    handle.write(105).fill(2);
    handle.onCommit(() => told.push("free"));
  });
  await transactions.commit();
  expect(trace).toEqual(["105 x1"]);
  expect(told).toEqual(["free"]);
});

it("writes nothing after a failure", async () => {
  await transactions.run((handle) => void handle.write(105).fill(2));
  const { bdev } = test.core;
  await (bdev as unknown as { close(): Promise<void> }).close();
  await expect(transactions.commit()).rejects.toMatchObject({ code: "EIO" });
  expect(() => transactions.run(() => 1)).toThrow(/EROFS/);
});
