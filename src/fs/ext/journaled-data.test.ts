import { beforeEach, describe, expect, it } from "vitest";
import { craftImage, JournalBuilder, runsOf } from "../../../test/support/crafted-log.ts";
import { openWorld, recoveredCopy } from "../../../test/support/journal-workload.ts";
import { readDevice, type StoreBlockDevice } from "../../block/block-device.ts";
import { writeDevice } from "../../block/write-device.ts";
import { VirtualClock } from "../../lib/clock.ts";
import { FsError } from "../../lib/errno.ts";
import { MemoryStore } from "../../store/memory-store.ts";
import { JournaledDataDevice, journalData } from "./journaled-data.ts";
import type { ExtTransactions } from "./transactions.ts";

const BLOCK = 4096;
let log: JournalBuilder;
let image: Uint8Array;
let device: StoreBlockDevice;
let transactions: ExtTransactions;
let data: JournaledDataDevice;
beforeEach(async () => {
  const clock = new VirtualClock();
  log = new JournalBuilder({ start: 0, sequence: 1 });
  image = craftImage(log, {}, runsOf(log, {}));
  ({ transactions, device } = await openWorld(new MemoryStore(image), image, log, clock));
  const newer = (blocknr: number): Uint8Array | undefined => transactions.newerThanHome(blocknr);
  data = new JournaledDataDevice(device, BLOCK, newer, clock);
});

/** A block of data that looks like a block of the log. */
function magic(value: number): Uint8Array {
  const bytes = new Uint8Array(BLOCK).fill(value);
  bytes.set([0xc0, 0x3b, 0x39, 0x98]);
  return bytes;
}

function homeOf(blocknr: number): Uint8Array {
  return image.subarray(blocknr * BLOCK, (blocknr + 1) * BLOCK);
}

describe("data=journal", () => {
  it("J89 data is read from memory until it is home, wherever a read begins", async () => {
    const before = image.slice(0, 40 * BLOCK);
    await transactions.run((handle) => journalData(handle, 31, magic(7)));
    const wanted = before.slice(30 * BLOCK, 33 * BLOCK);
    wanted.set(magic(7), BLOCK);
    const reads = async (): Promise<void> => {
      expect(Buffer.compare(await readDevice(data, 30 * BLOCK, 3 * BLOCK), wanted)).toBe(0);
      const part = await readDevice(data, 31 * BLOCK - 8, 16);
      expect(Buffer.compare(part, wanted.subarray(BLOCK - 8, BLOCK + 8))).toBe(0);
    };
    await reads();
    await transactions.commit();
    expect(Buffer.compare(homeOf(31), before.subarray(31 * BLOCK, 32 * BLOCK))).toBe(0);
    await reads();
    await transactions.flush();
    expect(transactions.newerThanHome(31)).toBeUndefined();
    expect(Buffer.compare(homeOf(31), magic(7))).toBe(0);
    await reads();
  });

  it("J89 a power cut leaves the data of the last commit, the magic number in its place", async () => {
    await transactions.run((handle) => journalData(handle, 31, magic(7)));
    await transactions.commit();
    await transactions.run((handle) => journalData(handle, 31, magic(8)));
    const recovered = await recoveredCopy(image, log);
    expect(Buffer.compare(recovered.subarray(31 * BLOCK, 32 * BLOCK), magic(7))).toBe(0);
  });

  it("J89 data that was freed does not come back over what follows it", async () => {
    await transactions.run((handle) => journalData(handle, 31, magic(7)));
    await transactions.commit();
    await transactions.run((handle) => handle.forget(31, 1));
    await transactions.commit();
    await writeDevice(data, 31 * BLOCK, magic(9));
    const recovered = await recoveredCopy(image, log);
    expect(Buffer.compare(recovered.subarray(31 * BLOCK, 32 * BLOCK), magic(9))).toBe(0);
    expect(Buffer.compare(await readDevice(data, 31 * BLOCK, BLOCK), magic(9))).toBe(0);
  });

  it("data of an operation that failed is as before", async () => {
    await transactions.run((handle) => journalData(handle, 31, magic(7)));
    const failing = async (): Promise<void> =>
      transactions.run((handle) => {
        journalData(handle, 31, magic(8));
        throw new FsError("ENOSPC");
      });
    await expect(failing()).rejects.toMatchObject({ code: "ENOSPC" });
    expect(Buffer.compare(await readDevice(data, 31 * BLOCK, BLOCK), magic(7))).toBe(0);
  });

  it("passes on a failed read", async () => {
    await transactions.run((handle) => journalData(handle, 31, magic(7)));
    await device.close();
    await expect(readDevice(data, 31 * BLOCK, BLOCK)).rejects.toMatchObject({ code: "EBADF" });
  });
});
