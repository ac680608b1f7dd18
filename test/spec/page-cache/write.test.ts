/** Acceptance cases of section 12.8 that concern writing: write, truncate, invalidate, ranges. */
import { expect, test } from "vitest";
import { fadvise, POSIX_FADV_DONTNEED } from "../../../src/cache/fadvise.ts";
import { filemapRead } from "../../../src/cache/filemap.ts";
import { fileWriteAndWaitRange } from "../../../src/cache/filemap-flush.ts";
import { genericFileDirectWrite, genericPerformWrite } from "../../../src/cache/filemap-write.ts";
import { IOCB_NOWAIT, type Kiocb } from "../../../src/cache/kiocb.ts";
import {
  SYNC_FILE_RANGE_WAIT_AFTER,
  SYNC_FILE_RANGE_WAIT_BEFORE,
  SYNC_FILE_RANGE_WRITE,
  syncFileRange,
} from "../../../src/cache/sync-file-range.ts";
import { invalidateInodePages2Range, truncateInodePages } from "../../../src/cache/truncate.ts";
import { EAGAIN, EBUSY, EINTR, EINVAL, EIO, ENOSPC } from "../../../src/lib/errno.ts";
import { PAGE_BYTES } from "../../../src/lib/units.ts";
import { BlockMappedFile } from "../../support/block-mapped-file.ts";
import { fillPage } from "../../support/scripted-file.ts";
import { now, WrittenFile } from "../../support/written-file.ts";

function bytesOf(lengthBytes: number, value: number): Uint8Array {
  return new Uint8Array(lengthBytes).fill(value);
}

async function readAll(file: WrittenFile, posBytes: number, lengthBytes: number) {
  const into = new Uint8Array(lengthBytes);
  const count = await filemapRead({ file: file.file, posBytes, flags: 0 }, into);
  expect(count).toBe(lengthBytes);
  return into;
}

/** Cached pages among the first ten. */
function cached({ mapping }: WrittenFile): number[] {
  return [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].filter((page) => mapping.folioAt(page) !== undefined);
}

test("W93 a write into cached pages is synchronous, whatever its length", () => {
  const file = new WrittenFile({ pages: 100 });
  for (let page = 0; page < 100; page++) file.clean(page);
  const iocb: Kiocb = { file: file.file, posBytes: 100, flags: IOCB_NOWAIT };
  expect(genericPerformWrite(iocb, bytesOf(90 * PAGE_BYTES, 7))).toBe(90 * PAGE_BYTES);
  expect([iocb.posBytes, file.cache.nrDirty, file.script.log]).toEqual([
    100 + 90 * PAGE_BYTES,
    91,
    [],
  ]);
  file.expectAtRest();
});

test("W95 a write behind the end of the file shows zeros where the page held anything", async () => {
  const file = new WrittenFile({ sizeBytes: 100 });
  const folio = file.clean(0);
  folio.bytes.fill(0xff, 100);
  folio.markDirty();
  expect(await file.write(2000, bytesOf(10, 7))).toBe(10);
  const bytes = await readAll(file, 0, 2010);
  expect(bytes.subarray(100, 2000)).toEqual(bytesOf(1900, 0));
  expect(bytes.subarray(2000)).toEqual(bytesOf(10, 7));
});

test("W95 what the device holds behind the end is zero in a page that is read back, too", async () => {
  const file = new WrittenFile({ sizeBytes: 100 });
  await readAll(file, 0, 100);
  expect(file.folio(0).bytes[200]).not.toBe(0);
  expect(await file.write(3 * PAGE_BYTES, bytesOf(10, 7))).toBe(10);
  expect(await file.fsync()).toBe(0);
  await truncateInodePages(file.mapping, 0);
  const bytes = await readAll(file, 0, PAGE_BYTES);
  expect(bytes.subarray(100)).toEqual(bytesOf(PAGE_BYTES - 100, 0));
});

test("W96 a write-out that waits for an appending write takes what that has written", async () => {
  const file = new BlockMappedFile({ blocks: [100, 101], isize: 1000, deviceBlocks: 200 });
  file.dirty(0, 0);
  const { writeBegin } = file.mapping.ops;
  let resume = (): void => {};
  file.mapping.ops.writeBegin = async (iocb, mapping, posBytes, lengthBytes) => {
    const folio = await writeBegin!.call(file.mapping.ops, iocb, mapping, posBytes, lengthBytes);
    await new Promise<void>((resolve) => {
      resume = resolve;
    });
    return folio;
  };
  const writing = genericPerformWrite(
    { file: file.file, posBytes: 1000, flags: 0 },
    bytesOf(500, 9),
  );
  await file.clock.turn();
  const syncing = fileWriteAndWaitRange(file.file, 0, Infinity);
  await file.clock.turn();
  expect(file.device.bios).toEqual([]);
  resume();
  expect([await writing, await syncing]).toEqual([500, 0]);
  expect(file.device.bios).toEqual(["W[100]S"]);
  expect(file.onDevice(100).subarray(1000, 1500)).toEqual(bytesOf(500, 9));
  expect(file.onDevice(100).subarray(1500)).toEqual(bytesOf(PAGE_BYTES - 1500, 0));
});

test("W97 a write that runs out of room returns what it has written, the next one why", () => {
  const file = new WrittenFile({ pages: 0 });
  file.script.onWriteBegin = (posBytes) => (posBytes < 2 * PAGE_BYTES ? 0 : -ENOSPC);
  expect(now(file.write(0, bytesOf(3 * PAGE_BYTES, 1)))).toBe(2 * PAGE_BYTES);
  expect(now(file.write(2 * PAGE_BYTES, bytesOf(PAGE_BYTES, 1)))).toBe(-ENOSPC);
  expect(file.script.size).toBe(2 * PAGE_BYTES);
  file.expectAtRest();
});

test("W98 truncate waits for the page in flight, and writes nothing of what it drops", async () => {
  const file = new WrittenFile({ pages: 10 });
  file.dirty(0, 1, 2, 3, 5, 6, 7, 8, 9);
  file.startWrite(4);
  const before = file.cache.nrDirty;
  const size = 8192 + 100;
  file.script.size = size;
  let isOver = false;
  const truncating = Promise.resolve(truncateInodePages(file.mapping, size)).then(() => {
    isOver = true;
  });
  await file.settle();
  expect([isOver, cached(file)]).toEqual([false, [0, 1, 2, 4]]);
  file.script.releaseWrites();
  await truncating;
  expect(cached(file)).toEqual([0, 1, 2]);
  const page = new Uint8Array(PAGE_BYTES);
  for (const index of [0, 1]) {
    fillPage(index, page);
    expect(file.folio(index).bytes).toEqual(page);
  }
  fillPage(2, page);
  page.fill(0, 100);
  expect(file.folio(2).bytes).toEqual(page);
  expect(before - file.cache.nrDirty).toBe(6);
  expect(await file.fsync()).toBe(0);
  expect(file.written).toEqual([0, 1, 2]);
  file.expectAtRest();
});

test("W99 invalidation keeps what is dirty, and says so, until it is written", async () => {
  const file = new WrittenFile();
  file.clean(0);
  file.dirty(1);
  expect(await invalidateInodePages2Range(file.mapping, 0, 9)).toBe(-EBUSY);
  expect([cached(file), file.folio(1).isDirty]).toEqual([[1], true]);
  expect(await file.fsync()).toBe(0);
  expect(await invalidateInodePages2Range(file.mapping, 0, 9)).toBe(0);
  expect(cached(file)).toEqual([]);
  file.expectAtRest();
});

test("W99 a file system that launders has its dirty pages dropped; one that refuses does not", async () => {
  const file = new WrittenFile();
  file.dirty(0, 1);
  Object.assign(file.script, {
    launderFolio: async (folio: ReturnType<WrittenFile["folio"]>) => {
      if (folio.index === 1) throw new Error("cannot");
      folio.clearDirtyForIo();
      folio.startWriteback();
      folio.endWriteback();
      return 0;
    },
  });
  expect(await invalidateInodePages2Range(file.mapping, 0, 9)).toBe(-EIO);
  expect(cached(file)).toEqual([1]);
  file.expectAtRest();
});

test("W101 DONTNEED starts to write the range and drops whole pages that are clean", async () => {
  const file = new WrittenFile();
  file.script.gated = () => true;
  file.dirty(0, 1, 2);
  const drop = () => fadvise(file.file, 100, 12287 - 99, POSIX_FADV_DONTNEED);
  expect(now(drop())).toBe(0);
  expect([file.written, cached(file)]).toEqual([
    [0, 1, 2],
    [0, 1, 2],
  ]);
  file.script.releaseWrites();
  expect(now(drop())).toBe(0);
  expect(cached(file)).toEqual([0]);
});

test("W102 WRITE alone passes over what is in flight; all flags wait for it and write it", async () => {
  const file = new WrittenFile();
  file.script.gated = () => true;
  file.startWrite(0).markDirty();
  expect(await syncFileRange(file.file, 0, PAGE_BYTES, SYNC_FILE_RANGE_WRITE)).toBe(0);
  expect(file.written).toEqual([]);
  const all = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
  let isOver = false;
  const syncing = syncFileRange(file.file, 0, PAGE_BYTES, all).then((status) => {
    isOver = true;
    return status;
  });
  await file.settle();
  expect(file.written).toEqual([]);
  file.script.releaseWrites();
  await file.settle();
  expect([file.written, isOver]).toEqual([[0], false]);
  file.script.releaseWrites();
  expect(await syncing).toBe(0);
});

test("W102 a range or flag that there is not is EINVAL; a length of 0 reaches to the end", async () => {
  const file = new WrittenFile();
  file.dirty(0, 5);
  expect(await syncFileRange(file.file, -1, 1, SYNC_FILE_RANGE_WRITE)).toBe(-EINVAL);
  expect(await syncFileRange(file.file, 0, 1, 8)).toBe(-EINVAL);
  expect(file.written).toEqual([]);
  expect(await syncFileRange(file.file, PAGE_BYTES, 0, SYNC_FILE_RANGE_WRITE)).toBe(0);
  expect(file.written).toEqual([5]);
});

/** A direct write of page 1 that changes the stored bytes, as a device would. */
function directWrite(file: WrittenFile, log: string[]): Promise<number> {
  const iocb: Kiocb = { file: file.file, posBytes: PAGE_BYTES, flags: 0 };
  const written = genericFileDirectWrite(iocb, PAGE_BYTES, async () => {
    log.push(`cached ${cached(file)}, written ${file.written}`);
    file.script.stored.set(1, bytesOf(PAGE_BYTES, 0xdd));
    return PAGE_BYTES;
  });
  return Promise.resolve(written);
}

test("W103 a direct write flushes and drops the page; a read finds what it has written", async () => {
  const file = new WrittenFile();
  file.clean(0);
  file.dirty(1);
  const log: string[] = [];
  expect(await directWrite(file, log)).toBe(PAGE_BYTES);
  expect(log).toEqual(["cached 0, written 1"]);
  expect(await readAll(file, PAGE_BYTES, PAGE_BYTES)).toEqual(bytesOf(PAGE_BYTES, 0xdd));
});

test("W103 a page that cannot be dropped makes the caller write through the cache", async () => {
  const file = new WrittenFile();
  file.dirty(1);
  file.folio(1).private = "needed";
  Object.assign(file.script, { releaseFolio: () => false });
  const log: string[] = [];
  expect(await directWrite(file, log)).toBe(0);
  expect(log).toEqual([]);
  expect(file.folio(1).isDirty).toBe(false);
});

test("W103 a page that cannot be dropped afterwards is an error for the next fsync", async () => {
  const file = new WrittenFile();
  Object.assign(file.script, { releaseFolio: () => false });
  const iocb: Kiocb = { file: file.file, posBytes: 0, flags: 0 };
  const written = await genericFileDirectWrite(iocb, PAGE_BYTES, () => {
    file.clean(0).private = "read meanwhile";
    return PAGE_BYTES;
  });
  expect([written, iocb.posBytes]).toEqual([PAGE_BYTES, PAGE_BYTES]);
  expect([await file.fsync(), await file.fsync()]).toEqual([-EIO, 0]);
});

test("a direct write that may not wait is refused where something is dirty", () => {
  const file = new WrittenFile();
  file.dirty(0);
  const iocb: Kiocb = { file: file.file, posBytes: 0, flags: IOCB_NOWAIT };
  expect(genericFileDirectWrite(iocb, PAGE_BYTES, () => PAGE_BYTES)).toBe(-EAGAIN);
  expect(genericFileDirectWrite({ ...iocb, posBytes: PAGE_BYTES }, PAGE_BYTES, () => 5)).toBe(5);
});

test("a write that may not wait is refused while somebody has the page locked", () => {
  const file = new WrittenFile();
  const folio = file.clean(0);
  folio.tryLock();
  expect(now(file.write(0, bytesOf(10, 1), { flags: IOCB_NOWAIT }))).toBe(-EAGAIN);
  folio.unlock();
  expect(folio.refs).toBe(1);
  expect(now(file.write(0, bytesOf(10, 1), { flags: IOCB_NOWAIT }))).toBe(10);
});

test("an aborted writer leaves at once, and what it has written counts", async () => {
  const file = new WrittenFile();
  file.clean(0);
  const locked = file.clean(1);
  locked.tryLock();
  const abort = new AbortController();
  const options = { signal: abort.signal };
  const writes = [
    file.write(0, bytesOf(2 * PAGE_BYTES, 1), options),
    file.write(PAGE_BYTES, bytesOf(10, 1), options),
  ];
  await file.settle();
  abort.abort();
  expect(await Promise.all(writes)).toEqual([PAGE_BYTES, -EINTR]);
  locked.unlock();
  expect(locked.refs).toBe(1);
  file.expectAtRest();
});

test("a large write makes large folios where they fit between those that are cached", () => {
  const file = new WrittenFile({ pages: 0, maxOrder: 4, arenaBytes: 64 * 1024 * 1024 });
  file.clean(21);
  expect(now(file.write(2 * PAGE_BYTES, bytesOf(30 * PAGE_BYTES, 1)))).toBe(30 * PAGE_BYTES);
  const orders: string[] = [];
  for (let at = file.mapping.nextFolioIndex(0, 99); at !== -1; ) {
    const { index, order, pageCount } = file.folio(at);
    orders.push(`${index}:${order}`);
    at = file.mapping.nextFolioIndex(index + pageCount, 99);
  }
  expect(orders).toEqual(["2:1", "4:2", "8:3", "16:2", "20:0", "21:0", "22:1", "24:3"]);
  file.expectAtRest();
});
