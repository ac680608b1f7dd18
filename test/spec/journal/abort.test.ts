/**
 * When writing has to end: a write of the journal fails, damage is met, another machine takes the
 * volume. What is noted on disk, what goes on, and what the next mount finds.
 */
import { describe, expect, test } from "vitest";
import { StoreBlockDevice } from "../../../src/block/block-device.ts";
import { PageCache } from "../../../src/cache/page-cache.ts";
import { openImage } from "../../../src/front/open-image.ts";
import { superblockChecksum } from "../../../src/fs/ext/checksum.ts";
import { findSuperblock } from "../../../src/fs/ext/find-superblock.ts";
import { JSB } from "../../../src/fs/ext/jbd2-superblock.ts";
import { MMP, SB } from "../../../src/fs/ext/layout.ts";
import { mountWritable } from "../../../src/fs/ext/mount-writable.ts";
import { be32, le16, le32, putLe32 } from "../../../src/lib/bytes.ts";
import { realClock, VirtualClock } from "../../../src/lib/clock.ts";
import { FsError } from "../../../src/lib/errno.ts";
import { Random } from "../../../src/lib/random.ts";
import { MIB } from "../../../src/lib/units.ts";
import { MemoryStore } from "../../../src/store/memory-store.ts";
import { BLOCK_BYTES, expectClean, makeBytes, open, placesOf } from "../../support/fast-image.ts";

const ERROR_STATE = 2;
const RECOVER = 4;

/** Bytes whose writes fail where `fails` says so, and are counted. */
class FailingStore extends MemoryStore {
  fails: (offsetBytes: number) => boolean = () => false;
  writeCount = 0;

  constructor(bytes: Uint8Array) {
    super(bytes, { canWrite: true });
  }

  override async write(...args: Parameters<MemoryStore["write"]>): Promise<void> {
    this.writeCount++;
    if (this.fails(args[0])) throw new FsError("EIO");
    return super.write(...args);
  }
}

function superblockOf(bytes: Uint8Array): Uint8Array {
  const raw = bytes.slice(1024, 2048);
  expect(superblockChecksum(raw)).toBe(le32(raw, SB.s_checksum));
  return raw;
}

describe("a write of the journal that fails", () => {
  test("J94 is noted in the journal and in the file system, the next mount finds what was", async () => {
    const bytes = await makeBytes([]);
    const places = new Set((await placesOf(bytes)).slice(1));
    const store = new FailingStore(bytes);
    const volume = await openImage(store, { writable: true, random: new Random(1) });
    await volume.fs.mkdir("/a");
    await volume.sync();
    store.fails = (offsetBytes) => places.has(Math.floor(offsetBytes / BLOCK_BYTES));
    await volume.fs.mkdir("/b");
    await expect(volume.sync()).rejects.toMatchObject({ code: "EIO" });
    await expect(volume.fs.mkdir("/c")).rejects.toMatchObject({ code: "EROFS" });
    expect(await volume.fs.readdir("/")).toContain("b");
    await expect(volume.close()).rejects.toThrow();
    const raw = superblockOf(bytes);
    expect(le16(raw, SB.s_state) & ERROR_STATE).toBe(ERROR_STATE);
    expect(le32(raw, SB.s_error_count)).toBe(1);
    expect(le32(raw, SB.s_feature_incompat) & RECOVER).toBe(RECOVER);
    const log = bytes.subarray((await placesOf(bytes))[0]! * BLOCK_BYTES);
    expect(be32(log, JSB.s_errno) | 0).toBe(-5);
    expect(be32(log, JSB.s_start)).not.toBe(0);
    const names = await open(bytes, ({ fs }) => fs.readdir("/"));
    expect(names).toContain("a");
    expect(names).not.toContain("b");
    expect(le16(superblockOf(bytes), SB.s_state) & ERROR_STATE).toBe(ERROR_STATE);
  });

  test("without a journal a failed write is noted in the file system", async () => {
    const bytes = await makeBytes([], { type: "ext2" });
    const store = new FailingStore(bytes);
    const volume = await openImage(store, { writable: true, random: new Random(1) });
    store.fails = (offsetBytes) => offsetBytes >= 2048;
    await volume.fs.mkdir("/b");
    await expect(volume.sync()).rejects.toMatchObject({ code: "EIO" });
    await expect(volume.close()).rejects.toThrow();
    expect(le16(bytes, 1024 + SB.s_state)).toBe(ERROR_STATE);
  });

  test("a mount that fails at its first write gives all back, and can be tried again", async () => {
    const bytes = await makeBytes([]);
    const store = new FailingStore(bytes);
    const bdev = new StoreBlockDevice(store, { clock: realClock });
    const cache = new PageCache({ arenaBytes: 4 * MIB, clock: realClock });
    const options = { clock: realClock, random: new Random(1) };
    const mount = async (): ReturnType<typeof mountWritable> => {
      const found = await findSuperblock(bdev, "primary", undefined, undefined);
      return mountWritable(bdev, cache, found, options, () => undefined);
    };
    store.fails = () => true;
    await expect(mount()).rejects.toMatchObject({ code: "EIO" });
    expect(cache.stats().freeFrames).toBe(cache.stats().frameCount);
    store.fails = () => false;
    await (await mount()).close();
    await expectClean(bytes);
  });
});

describe("damage that is met while something is changed", () => {
  /** An image whose directory `/bad` has a block with a wrong checksum, beside a good one. */
  async function damagedImage(onErrors: "continue" | "remount-ro" | "panic"): Promise<Uint8Array> {
    const bytes = await makeBytes([], { onErrors });
    await open(bytes, async ({ fs }) => {
      await fs.mkdir("/good");
      await fs.mkdir("/bad");
      await fs.writeFile("/bad/marker-of-the-block", "");
    });
    const at = Buffer.from(bytes.buffer).indexOf("marker-of-the-block", MIB);
    bytes[at] = 0x4d;
    return bytes;
  }

  test("is noted, and all else goes on, where errors are to be passed over", async () => {
    const bytes = await damagedImage("continue");
    await open(bytes, async ({ fs }) => {
      await expect(fs.mkdir("/bad/x")).rejects.toMatchObject({ code: "EBADMSG" });
      await fs.mkdir("/good/x");
      await expect(fs.mkdir("/bad/y")).rejects.toMatchObject({ code: "EBADMSG" });
    });
    const raw = superblockOf(bytes);
    expect(le16(raw, SB.s_state) & ERROR_STATE).toBe(ERROR_STATE);
    expect(le32(raw, SB.s_error_count)).toBe(2);
    expect(raw[SB.s_last_error_errcode]).toBe(4);
    const names = await open(bytes, ({ fs }) => fs.readdir("/good"));
    expect(names).toEqual(["x"]);
  });

  test.each(["remount-ro", "panic"] as const)(
    "ends all changes with %s, and what was changed before is kept",
    async (onErrors) => {
      const bytes = await damagedImage(onErrors);
      await open(bytes, async ({ fs }) => {
        await fs.mkdir("/good/before");
        await expect(fs.mkdir("/bad/x")).rejects.toMatchObject({ code: "EBADMSG" });
        await expect(fs.mkdir("/good/x")).rejects.toMatchObject({ code: "EROFS" });
        await expect(fs.writeFile("/good/y", "y")).rejects.toMatchObject({ code: "EROFS" });
        expect(await fs.readdir("/good")).toEqual(["before"]);
      });
      const raw = superblockOf(bytes);
      expect(le16(raw, SB.s_state) & ERROR_STATE).toBe(ERROR_STATE);
      expect(le32(raw, SB.s_error_count)).toBe(1);
      expect(await open(bytes, ({ fs }) => fs.readdir("/good"))).toEqual(["before"]);
    },
  );
});

describe("a volume that another machine has taken", () => {
  /** Lets time pass until `work` has ended. */
  async function passing<T>(clock: VirtualClock, work: Promise<T>): Promise<T> {
    let isDone = false;
    const ended = work.finally(() => {
      isDone = true;
    });
    ended.catch(() => undefined);
    for (let step = 0; step < 1000 && !isDone; step++) await clock.advance(500);
    return ended;
  }

  test("is not written any more, neither names nor data nor superblocks", async () => {
    const bytes = await makeBytes(["mmp"]);
    const clock = new VirtualClock();
    clock.spend(1_700_000_000_000);
    const store = new FailingStore(bytes);
    const options = { writable: true, random: new Random(1), clock };
    const volume = await passing(clock, openImage(store, options));
    await volume.fs.writeFile("/file", "kept");
    await passing(clock, volume.sync());
    const file = await volume.fs.open("/file", "r+");
    await file.write("lost"); // Its block has a place: nothing but the device is in the way.
    await file.close();
    const block = le32(bytes, 1024 + SB.s_mmp_block) * BLOCK_BYTES;
    putLe32(bytes, block + MMP.mmp_seq, 77);
    const { writeCount } = store;
    await clock.advance(60_000);
    await expect(passing(clock, volume.fs.mkdir("/x"))).rejects.toMatchObject({ code: "EROFS" });
    await expect(passing(clock, volume.sync())).rejects.toThrow();
    expect(await volume.fs.readdir("/")).toContain("file");
    await expect(passing(clock, volume.close())).rejects.toThrow();
    expect(store.writeCount).toBe(writeCount);
    expect(le32(bytes, block + MMP.mmp_seq)).toBe(77);
  });
});
