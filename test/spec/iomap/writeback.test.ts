/**
 * Cases I74 to I90: what of dirty folios is written, in how many pieces, and what follows
 * when it is down or has failed. Blocks of 1024 bytes, folios of 16384, unless a case says
 * otherwise.
 */
import { expect, test } from "vitest";
import { openCacheFile } from "../../../src/cache/cache-file.ts";
import type { Folio } from "../../../src/cache/folio.ts";
import { filemapReleaseFolio } from "../../../src/cache/reclaim.ts";
import { AssertionError } from "../../../src/lib/assert.ts";
import { equalBytes } from "../../../src/lib/bytes.ts";
import { EIO, ENOSPC, FsError } from "../../../src/lib/errno.ts";
import { isPromise } from "../../../src/lib/maybe.ts";
import { iomapInvalidateFolio } from "../../../src/mapping/iomap/callbacks.ts";
import { IomapIoendQueue, iomapFinishIoends } from "../../../src/mapping/iomap/finish-ioend.ts";
import {
  IOMAP_IOEND_BOUNDARY,
  IOMAP_IOEND_UNWRITTEN,
  IomapIoend,
  iomapSplitIoend,
} from "../../../src/mapping/iomap/ioend.ts";
import {
  IOMAP_DELALLOC,
  IOMAP_F_ANON_WRITE,
  IOMAP_F_BOUNDARY,
  IOMAP_HOLE,
  IOMAP_INLINE,
  IOMAP_MAPPED,
  IOMAP_NULL_ADDR,
} from "../../../src/mapping/iomap/iomap.ts";
import { iomapSeekData } from "../../../src/mapping/iomap/seek.ts";
import {
  iomapAddToIoend,
  iomapIoendSubmit,
  iomapSubmitIoend,
} from "../../../src/mapping/iomap/submit-ioend.ts";
import type { IomapWritepageCtx } from "../../../src/mapping/iomap/writeback-ops.ts";
import { M, range, SCRIPT_ADDR, scriptMapping, U } from "../../support/script-fs.ts";
import { withExactArenas } from "../../support/small-arena.ts";
import { WrittenScriptFs } from "../../support/written-script-fs.ts";

/** A folio at `posBytes` with `blocks` uptodate and dirty, holding `value`. */
function dirtyFolio(
  fs: WrittenScriptFs,
  posBytes: number,
  blocks: readonly number[],
  value = 0x77,
): Folio {
  const folio = fs.mapping.folioAt(posBytes / 4096) ?? fs.addFolio(posBytes);
  if (!folio.isLocked) folio.tryLock();
  fs.fillBlocks(folio, blocks, value);
  for (const block of blocks) folio.markDirtyRange(block * 1024, 1024);
  folio.unlock();
  return folio;
}

/** Bytes of the device where the file has them, if it lies where scripts put it. */
function deviceBytes(fs: WrittenScriptFs, start: number, end: number): Uint8Array {
  const bytes = new Uint8Array(end - start);
  fs.device.peek(SCRIPT_ADDR + start, bytes);
  return bytes;
}

test("I74 what a store has put behind the end of the file reaches the device as zeros", async () => {
  const fs = new WrittenScriptFs([M(0, 16384)], { sizeBytes: 1500 });
  const folio = dirtyFolio(fs, 0, [0, 1]);
  expect(await fs.requestsOf(() => fs.fsync())).toEqual(["W[0,2048)"]);
  expect(fs.ioends).toEqual(["[0,1500)"]);
  expect(deviceBytes(fs, 1500, 2048)).toEqual(new Uint8Array(548));
  expect(folio.bytes.subarray(1500)).toEqual(new Uint8Array(16384 - 1500));
});

test("I75 of a folio behind the end of the file nothing is written", async () => {
  const fs = new WrittenScriptFs([M(0, 65536)], { sizeBytes: 10000 });
  const folio = dirtyFolio(fs, 16384, [0, 1]);
  expect(await fs.fsync()).toBe(0);
  expect(fs.requests).toEqual([]);
  expect([folio.isWriteback, folio.isLocked, folio.isDirty]).toEqual([false, false, false]);
  fs.cache.verify();
});

test("I76 a hole between dirty blocks is passed over", async () => {
  const fs = new WrittenScriptFs([M(0, 2048), M(3072, 16384)], { sizeBytes: 16384 });
  const folio = dirtyFolio(fs, 0, [1, 2, 3]);
  expect(await fs.requestsOf(() => fs.fsync())).toEqual(["W[1024,2048)", "W[3072,4096)"]);
  expect(fs.dirtyBlocks(folio)).toEqual([]);
  expect([folio.isWriteback, folio.blockState?.writePendingBytes]).toEqual([false, 0]);
  fs.cache.verify();
});

/** The file after a crash: what `fs` has on its device and in its map now, and nothing cached. */
function crashed(fs: WrittenScriptFs): WrittenScriptFs {
  const after = new WrittenScriptFs(fs.mappings, { sizeBytes: fs.diskSize });
  const bytes = new Uint8Array(65536);
  fs.device.peek(SCRIPT_ADDR, bytes);
  after.device.poke(SCRIPT_ADDR, bytes);
  return after;
}

test("I84 a crash before the conversion leaves zeros, one before the new size the old size", async () => {
  const fs = new WrittenScriptFs([U(0, 16384)], { sizeBytes: 1000 });
  let beforeConversion: WrittenScriptFs | null = null;
  let beforeSize: WrittenScriptFs | null = null;
  fs.onConvert = () => {
    beforeConversion = crashed(fs);
  };
  fs.onConverted = () => {
    beforeSize = crashed(fs);
  };
  await fs.fillFile(0, 3000);
  await fs.fsync();
  expect(deviceBytes(fs, 0, 3000)).toEqual(new Uint8Array(3000).fill(0x77));
  expect(await beforeConversion!.read(0, 3000)).toEqual(new Uint8Array(1000));
  expect(await beforeSize!.read(0, 3000)).toEqual(new Uint8Array(1000).fill(0x77));
  expect(await crashed(fs).read(0, 4000)).toEqual(new Uint8Array(3000).fill(0x77));
});

/** A folio of which `range` can map the first half only. */
function halfMapped(onWriteError: "drop" | "keep"): WrittenScriptFs {
  const fs = new WrittenScriptFs([M(0, 8192), M(8192, 16384)], { sizeBytes: 16384, onWriteError });
  fs.onRange = ({ posBytes }) => {
    if (posBytes >= 8192) throw new FsError("EIO", { detail: "no map" });
    return undefined;
  };
  dirtyFolio(fs, 0, range(0, 15));
  return fs;
}

test("I77 an error in the middle of a folio fails it as a whole, and is told once", async () => {
  const fs = halfMapped("drop");
  expect(await fs.fsync()).toBe(-EIO);
  expect(fs.ioends).toEqual(["![0,8192)"]);
  expect(fs.requests).toEqual([]);
  const folio = fs.folio();
  expect(fs.dirtyBlocks(folio)).toEqual([]);
  expect([folio.isWriteback, folio.isDirty]).toEqual([false, false]);
  expect(await fs.fsync()).toBe(0);
  fs.cache.verify();
});

test('I77 with "keep" all blocks are dirty again, and go down once they can', async () => {
  const fs = halfMapped("keep");
  expect(await fs.fsync()).toBe(-EIO);
  const folio = fs.folio();
  expect(fs.dirtyBlocks(folio)).toEqual(range(0, 15));
  expect([folio.isWriteback, folio.isDirty]).toEqual([false, true]);
  fs.cache.verify();
  fs.onRange = null;
  expect(await fs.requestsOf(() => fs.fsync())).toEqual(["W[0,16384)"]);
  expect(fs.cache.nrDirty).toBe(0);
});

test("I78 what goes on in the file and on the device is one request across folios", async () => {
  const fs = new WrittenScriptFs([M(0, 32768)], { sizeBytes: 32768 });
  await fs.fillFile(0, 32768);
  expect(await fs.requestsOf(() => fs.fsync())).toEqual(["W[0,32768)"]);
});

test("I78 what is unwritten is not written with what is mapped", async () => {
  const fs = new WrittenScriptFs([M(0, 16384), U(16384, 32768)], { sizeBytes: 32768 });
  await fs.fillFile(0, 32768);
  expect(await fs.requestsOf(() => fs.fsync())).toEqual(["W[0,16384)", "W[16384,32768)"]);
  expect(fs.conversions).toEqual(["[16384,32768)"]);
});

test("I78 nor is what lies elsewhere on the device", async () => {
  const elsewhere = SCRIPT_ADDR + 1048576;
  const fs = new WrittenScriptFs([M(0, 16384), M(16384, 32768, elsewhere)], { sizeBytes: 32768 });
  await fs.fillFile(0, 32768);
  expect(await fs.requestsOf(() => fs.fsync())).toEqual(["W[0,16384)", "W[16384,32768)"]);
});

test("I79 a boundary ends what comes before it", async () => {
  const fs = new WrittenScriptFs(
    [M(0, 16384), scriptMapping(IOMAP_MAPPED, 16384, 49152, { flags: IOMAP_F_BOUNDARY })],
    { sizeBytes: 49152 },
  );
  await fs.fillFile(0, 49152);
  expect(await fs.requestsOf(() => fs.fsync())).toEqual(["W[0,16384)", "W[16384,49152)"]);
  expect(fs.ioends).toEqual(["[0,16384)", "[16384,49152)"]);
});

test("I80 an ioend has 4096 folios at most, and its bios 256 vectors", async () => {
  withExactArenas(); // 4096 dirty folios do not fit into a small one.
  const sizeBytes = 5000 * 4096;
  const options = { sizeBytes, order: 0, blockBytes: 4096, arenaBytes: 2 * sizeBytes };
  const fs = new WrittenScriptFs([M(0, sizeBytes)], options);
  await fs.fillFile(0, sizeBytes);
  expect(await fs.fsync()).toBe(0);
  expect(fs.ioends).toEqual([`[0,${4096 * 4096})`, `[${4096 * 4096},${sizeBytes})`]);
  expect(fs.requests.length).toBe(Math.ceil(4096 / 256) + Math.ceil(904 / 256));
  expect(fs.requests[0]).toBe("W[0,1048576)");
});

test.each([
  ["reserved space", IOMAP_DELALLOC],
  ["inline data", IOMAP_INLINE],
] as const)("I81 %s is nothing to write to: EIO", async (_, type) => {
  const fs = new WrittenScriptFs([M(0, 16384)], { sizeBytes: 16384 });
  dirtyFolio(fs, 0, [0]);
  fs.onRange = ({ wpc, folio, posBytes, lengthBytes }) => {
    wpc.iomap.type = type;
    wpc.iomap.lengthBytes = 16384;
    return iomapAddToIoend(wpc, folio, posBytes, 16384, lengthBytes);
  };
  expect(await fs.fsync()).toBe(-EIO);
  expect(fs.requests).toEqual([]);
  expect([fs.folio().isWriteback, fs.folio().isLocked]).toEqual([false, false]);
});

test.each([0, 1025, -1, Number.NaN])(
  "I81 a range that takes %i of 1024 bytes: EIO",
  async (bytes) => {
    const fs = new WrittenScriptFs([M(0, 16384)], { sizeBytes: 16384 });
    dirtyFolio(fs, 0, [0]);
    fs.onRange = () => bytes;
    expect(await fs.fsync()).toBe(-EIO);
    expect(fs.requests).toEqual([]);
    expect(fs.folio().isWriteback).toBe(false);
  },
);

/** A file without places: they are chosen when it is written. */
function anonymous(): WrittenScriptFs {
  const fs = new WrittenScriptFs([M(0, 32768)], { sizeBytes: 32768 });
  fs.onRange = ({ wpc, folio, posBytes, lengthBytes }) => {
    Object.assign(wpc.iomap, {
      type: IOMAP_MAPPED,
      flags: IOMAP_F_ANON_WRITE,
      offsetBytes: folio.posBytes,
      lengthBytes: 16384,
      addrBytes: IOMAP_NULL_ADDR,
    });
    return iomapAddToIoend(wpc, folio, posBytes, folio.posBytes + 16384, lengthBytes);
  };
  return fs;
}

test("I82 ranges without a place are one ioend, which the usual submit refuses", async () => {
  const fs = anonymous();
  await fs.fillFile(0, 32768);
  expect(await fs.fsync()).toBe(-EIO);
  expect(fs.ioends).toEqual(["[0,32768)"]);
  expect([fs.requests, fs.folio().isWriteback]).toEqual([[], false]);
});

test("I82 who chooses the place may cut it in two, and both halves end it", async () => {
  const fs = anonymous();
  const parts: number[][] = [];
  fs.onSubmit = (wpc) => {
    const ioend = wpc.pending!;
    wpc.pending = null;
    const front = iomapSplitIoend(ioend, 20000)!;
    ioend.addrBytes = SCRIPT_ADDR + 1048576;
    front.addrBytes = SCRIPT_ADDR;
    for (const part of [front, ioend]) {
      parts.push([part.offsetBytes, part.sizeBytes, part.ioBytes]);
      part.bdev = fs.device;
      iomapSubmitIoend(part);
    }
    return true;
  };
  await fs.fillFile(0, 32768);
  fs.device.isHeld = true;
  const synced = fs.fsync();
  await fs.settle();
  expect(parts).toEqual([
    [0, 19456, 19456],
    [19456, 13312, 13312],
  ]);
  fs.device.complete(fs.device.inFlight[1]!);
  await fs.settle();
  expect([fs.folio(0).isWriteback, fs.folio(16384).isWriteback]).toEqual([true, true]);
  fs.device.completeAll();
  expect(await synced).toBe(0);
  expect([fs.folio(0).isWriteback, fs.folio(16384).isWriteback]).toEqual([false, false]);
  const written = new Uint8Array(13312);
  fs.device.peek(SCRIPT_ADDR + 1048576, written);
  expect(written).toEqual(new Uint8Array(13312).fill(0x77));
});

test("I82 an error of one half is that of both", async () => {
  const fs = anonymous();
  fs.onSubmit = (wpc) => {
    const ioend = wpc.pending!;
    wpc.pending = null;
    const front = iomapSplitIoend(ioend, 20000)!;
    expect(iomapSplitIoend(front, 19456)).toBeNull();
    iomapFinishIoends(front, new FsError("ENOSPC"));
    iomapFinishIoends(ioend, null);
    return true;
  };
  await fs.fillFile(0, 32768);
  expect(await fs.fsync()).toBe(-ENOSPC);
});

/** Ioends of 4096 bytes at each of `offsets`, as a device that has written them hands them over. */
function endedIoends(fs: WrittenScriptFs, offsets: readonly number[]): IomapIoend[] {
  return offsets.map((offsetBytes) => {
    const folio = fs.addFolio(offsetBytes);
    folio.startWriteback();
    folio.unlock();
    const ioend = new IomapIoend(fs.mapping, {
      flags: IOMAP_IOEND_UNWRITTEN,
      offsetBytes,
      addrBytes: SCRIPT_ADDR + offsetBytes,
      bdev: fs.device,
      bioFlags: 0,
    });
    ioend.add(folio, 0, 4096);
    return ioend;
  });
}

/** What the file system is called for when `ioends` come to their end together. */
async function handledOf(fs: WrittenScriptFs, ioends: readonly IomapIoend[]): Promise<string[]> {
  const handled: string[] = [];
  const queue = new IomapIoendQueue(fs.clock, async (ioend) => {
    await fs.clock.turn();
    expect(ioend.parts.every(({ folio }) => folio.isWriteback)).toBe(true);
    handled.push(`[${ioend.offsetBytes},${ioend.endBytes})`);
  });
  for (const ioend of ioends) queue.add(ioend);
  for (let turn = 0; turn < 10; turn++) await fs.settle();
  for (const { parts } of ioends) expect(parts[0]!.folio.isWriteback).toBe(false);
  return handled;
}

const SMALL = { sizeBytes: 16384, blockBytes: 4096, order: 0 };

test("I83 what was written in pieces is converted as one", async () => {
  const fs = new WrittenScriptFs([U(0, 16384)], SMALL);
  expect(await handledOf(fs, endedIoends(fs, [8192, 0, 4096]))).toEqual(["[0,12288)"]);
});

test.each([
  ["mapped", { flags: 0 }],
  ["failed", { error: new FsError("EIO") }],
  ["a boundary", { flags: IOMAP_IOEND_UNWRITTEN | IOMAP_IOEND_BOUNDARY }],
  ["elsewhere", { addrBytes: SCRIPT_ADDR + 8192 }],
])("I83 unless the piece in the middle is %s", async (_, change) => {
  const fs = new WrittenScriptFs([U(0, 16384)], SMALL);
  const ioends = endedIoends(fs, [8192, 0, 4096]);
  Object.assign(ioends[2]!, change);
  const handled = await handledOf(fs, ioends);
  expect(handled.length).toBeGreaterThan(1);
  expect(handled[0]).toBe("[0,4096)");
});

test("I83 an error of the file system is that of the range, and told after it", async () => {
  const fs = new WrittenScriptFs([U(0, 16384)], { sizeBytes: 16384 });
  fs.onConvert = () => {
    throw new FsError("ENOSPC", { detail: "no room for the extent" });
  };
  await fs.fillFile(0, 2048);
  expect(await fs.fsync()).toBe(-ENOSPC);
  expect(fs.mapping.writeFailure).toMatchObject({ detail: "no room for the extent" });
  expect(fs.folio().isWriteback).toBe(false);
});

test("I85 an ioend that ends inside submit does not end the folio that is still walked", async () => {
  const fs = new WrittenScriptFs([M(0, 2048), M(2048, 16384)], { sizeBytes: 16384 });
  const folio = dirtyFolio(fs, 0, [0, 4]);
  const seen: boolean[] = [];
  let ends = 0;
  const endWriteback = folio.endWriteback.bind(folio);
  folio.endWriteback = () => {
    ends++;
    endWriteback();
  };
  fs.onSubmit = (wpc) => {
    const ioend = wpc.pending!;
    wpc.pending = null;
    iomapFinishIoends(ioend, null);
    seen.push(folio.isWriteback);
    return true;
  };
  await fs.fsync();
  expect(fs.ioends).toEqual(["[0,1024)", "[4096,5120)"]);
  expect([seen, ends]).toEqual([[true, false], 1]);
  expect(fs.dirtyBlocks(folio)).toEqual([]);
});

test("I86 a block that is written while it is in flight goes down a second time", async () => {
  const fs = new WrittenScriptFs([M(0, 16384)], { sizeBytes: 16384 });
  await fs.read(0, 16384);
  await fs.fillFile(0, 1024, 1);
  fs.device.isHeld = true;
  const first = fs.fsync();
  await fs.settle();
  expect(isPromise(fs.fillFile(0, 1024, 2))).toBe(false);
  const folio = fs.folio();
  expect([folio.isWriteback, folio.isDirty, fs.dirtyBlocks(folio)]).toEqual([true, true, [0]]);
  fs.device.completeAll();
  await first;
  fs.device.isHeld = false;
  expect(await fs.requestsOf(() => fs.fsync())).toEqual(["W[0,1024)"]);
  expect(deviceBytes(fs, 0, 1024)).toEqual(new Uint8Array(1024).fill(2));
});

test("I86 where the store needs bytes that stay, the writer waits", async () => {
  const options = { sizeBytes: 16384, stableWrites: true };
  const fs = new WrittenScriptFs([M(0, 16384)], options);
  await fs.read(0, 16384);
  await fs.fillFile(0, 1024, 1);
  fs.device.isHeld = true;
  const synced = fs.fsync();
  await fs.settle();
  let isWritten = false;
  const written = Promise.resolve(fs.fillFile(0, 1024, 2)).then(() => {
    isWritten = true;
  });
  await fs.settle();
  expect([isWritten, fs.folio().bytes[0]]).toEqual([false, 1]);
  fs.device.completeAll();
  await synced;
  await written;
  expect(deviceBytes(fs, 0, 1024)).toEqual(new Uint8Array(1024).fill(1));
  expect(fs.dirtyBlocks(fs.folio())).toEqual([0]);
});

test.each([EIO, ENOSPC])(
  "I87 a write that the device refuses (%i) is told once, and not repeated",
  async (errno) => {
    const fs = new WrittenScriptFs([U(0, 65536)], { sizeBytes: 65536 });
    const other = openCacheFile(fs.mapping);
    await fs.fillFile(4096, 3000);
    fs.device.statusOf = () => -errno;
    expect(await fs.requestsOf(async () => expect(await fs.fsync()).toBe(-errno))).toEqual([
      "W[4096,7168)",
    ]);
    expect(fs.conversions).toEqual([]);
    expect(await fs.requestsOf(async () => expect(await fs.fsync()).toBe(0))).toEqual([]);
    expect(await fs.fsync(other)).toBe(-errno);
    expect(await fs.fsync(other)).toBe(0);
    expect(await fs.read(4096, 3000)).toEqual(new Uint8Array(3000).fill(0x77));
    expect(iomapSeekData(fs.inode, fs.mapping, 0, fs)).toBe(4096);
    fs.evict();
    expect(await fs.read(4096, 3000)).toEqual(new Uint8Array(3000));
    fs.device.statusOf = () => 0;
    await fs.fillFile(5000, 100);
    expect(await fs.fsync()).toBe(0);
    expect(fs.conversions).toEqual(["[4096,5120)"]);
  },
);

test('I87 with "keep" it is dirty again, and written by the next fsync', async () => {
  const options = { sizeBytes: 65536, onWriteError: "keep" } as const;
  const fs = new WrittenScriptFs([U(0, 65536)], options);
  await fs.fillFile(4096, 3000);
  fs.device.statusOf = () => -EIO;
  expect(await fs.fsync()).toBe(-EIO);
  expect(fs.dirtyBlocks(fs.folio())).toEqual([4, 5, 6]);
  expect(fs.folio().isDirty).toBe(true);
  fs.cache.verify();
  fs.device.statusOf = () => 0;
  expect(await fs.requestsOf(async () => expect(await fs.fsync()).toBe(0))).toEqual([
    "W[4096,7168)",
  ]);
  expect(fs.conversions).toEqual(["[4096,7168)"]);
});

test.each(["drop", "keep"] as const)("I87 a folio of one block too (%s)", async (onWriteError) => {
  const options = { sizeBytes: 4096, blockBytes: 4096, order: 0, onWriteError };
  const fs = new WrittenScriptFs([M(0, 4096)], options);
  await fs.fillFile(0, 4096);
  fs.device.statusOf = () => -EIO;
  expect(await fs.fsync()).toBe(-EIO);
  expect([fs.folio().isDirty, fs.folio().isWriteback]).toEqual([onWriteError === "keep", false]);
  fs.onRange = () => {
    throw new FsError("ENOSPC");
  };
  await fs.fillFile(0, 4096);
  expect(await fs.fsync()).toBe(-ENOSPC);
  expect([fs.folio().isDirty, fs.folio().isWriteback]).toEqual([onWriteError === "keep", false]);
  fs.cache.verify();
});

test("I88 a file in one large block grows to the byte", async () => {
  const fs = new WrittenScriptFs([M(0, 16384)], { sizeBytes: 5000, blockBytes: 16384 });
  const requests = await fs.requestsOf(async () => {
    await fs.fillFile(5000, 100);
    await fs.fsync();
  });
  expect(requests).toEqual(["R[0,16384)", "W[0,16384)"]);
  expect(fs.ioends).toEqual(["[0,5100)"]);
  expect(fs.diskSizes).toEqual([5100]);
});

test("I89 a dirty folio keeps its state, a clean one gives it up and is read anew", async () => {
  const fs = new WrittenScriptFs([M(0, 16384)], { sizeBytes: 16384 });
  const folio = dirtyFolio(fs, 0, [4]);
  folio.tryLock();
  expect(filemapReleaseFolio(fs.mapping, folio)).toBe(false);
  expect(folio.blockState).not.toBeNull();
  folio.unlock();
  await fs.fsync();
  folio.tryLock();
  expect(filemapReleaseFolio(fs.mapping, folio)).toBe(true);
  expect(folio.blockState).toBeNull();
  folio.unlock();
  expect(equalBytes(await fs.read(0, 16384), fs.expected(0, 16384))).toBe(true);
});

test("I90 a part of a folio that is invalidated changes nothing, the whole of it all", () => {
  const fs = new WrittenScriptFs([M(0, 16384)], { sizeBytes: 16384 });
  const folio = dirtyFolio(fs, 0, [4]);
  folio.tryLock();
  iomapInvalidateFolio(folio, 4096, 4096);
  expect([fs.dirtyBlocks(folio), folio.isDirty, fs.cache.nrDirty]).toEqual([[4], true, 4]);
  iomapInvalidateFolio(folio, 0, 16384);
  expect([folio.blockState, folio.isDirty, fs.cache.nrDirty]).toEqual([null, false, 0]);
  folio.unlock();
});

test("a walk that has to wait for the map submits what it has collected before", async () => {
  const fs = new WrittenScriptFs([M(0, 32768)], { sizeBytes: 32768 });
  await fs.fillFile(0, 32768);
  let requestsWhenAsked = -1;
  fs.onRange = async ({ posBytes }) => {
    if (posBytes < 16384) return undefined;
    await fs.clock.turn();
    requestsWhenAsked = fs.requests.length;
    return undefined;
  };
  expect(await fs.fsync()).toBe(0);
  expect(requestsWhenAsked).toBe(1);
});

test("a walk that has to wait for a folio submits what it has collected before", async () => {
  const fs = new WrittenScriptFs([M(0, 32768)], { sizeBytes: 32768 });
  await fs.fillFile(0, 32768);
  const busy = fs.folio(16384);
  busy.tryLock();
  const synced = fs.fsync();
  await fs.settle();
  expect(fs.requests).toEqual(["W[0,16384)"]);
  busy.unlock();
  expect(await synced).toBe(0);
  expect(fs.requests).toEqual(["W[0,16384)", "W[16384,32768)"]);
});

test("a mapping that no longer holds is asked for again in the middle of a walk", async () => {
  const fs = new WrittenScriptFs([M(0, 16384), M(16384, 32768)], { sizeBytes: 32768 });
  await fs.fillFile(0, 32768);
  const moved = SCRIPT_ADDR + 1048576;
  fs.onRange = ({ posBytes, wpc }: { posBytes: number; wpc: IomapWritepageCtx }) => {
    if (posBytes < 16384 || wpc.iomap.type === IOMAP_HOLE) return undefined;
    fs.mappings = [M(0, 16384), M(16384, 32768, moved)];
    fs.cookie++;
    return undefined;
  };
  await fs.fsync();
  const { offsetBytes } = fs.device.requests.at(-1)!;
  expect(offsetBytes).toBe(moved);
});

test("a bug of the file system's hook is not taken for an error of the device", async () => {
  const fs = new WrittenScriptFs([M(0, 16384)], { sizeBytes: 16384 });
  await fs.fillFile(0, 1024);
  fs.onSubmit = (wpc) => {
    iomapIoendSubmit(wpc, null);
    expect(() => iomapIoendSubmit(wpc, null)).not.toThrow();
    return true;
  };
  expect(await fs.fsync()).toBe(0);
  const ioend = endedIoends(new WrittenScriptFs([], SMALL), [0])[0]!;
  iomapFinishIoends(ioend, null);
  expect(() => iomapFinishIoends(ioend, null)).toThrow(AssertionError);
});
