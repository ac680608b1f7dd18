/** Acceptance cases of section 12.10 that concern writing: what JavaScript changes. */
import { expect, test } from "vitest";
import { Bio, REQ_OP_WRITE } from "../../../src/block/bio.ts";
import { Plug } from "../../../src/block/plug.ts";
import { filemapRead } from "../../../src/cache/filemap.ts";
import {
  filemapFdatawriteRange,
  fileWriteAndWaitRange,
  writeOneFolio,
} from "../../../src/cache/filemap-flush.ts";
import { invalidateInodePages2 } from "../../../src/cache/truncate.ts";
import { WB_SYNC_NONE } from "../../../src/cache/writeback-control.ts";
import { EFBIG, EIO, ENOSPC, FsError } from "../../../src/lib/errno.ts";
import { Random } from "../../../src/lib/random.ts";
import { FILE_BYTES_MAX, MIB, PAGE_BYTES } from "../../../src/lib/units.ts";
import { MARK_DIRTY, MARK_WRITEBACK } from "../../../src/lib/xarray.ts";
import { BlockMappedFile } from "../../support/block-mapped-file.ts";
import { withExactArenas } from "../../support/small-arena.ts";
import { now, WrittenFile } from "../../support/written-file.ts";

/** A file of `count` blocks of 4 KiB, block i on device block 100 + i. */
function plainFile(count: number, onWriteError: "drop" | "keep" = "drop"): BlockMappedFile {
  const blocks = Array.from({ length: count }, (_, block) => 100 + block);
  return new BlockMappedFile({ blocks, onWriteError });
}

test("W119 a write does not end before submitBio has returned", async () => {
  const file = plainFile(1);
  file.dirty(0, 0);
  const isInFlight: boolean[] = [];
  const { submitBio } = file.device;
  file.device.submitBio = (bio) => {
    submitBio.call(file.device, bio); // Without a plug: at once, to a store that is memory.
    isInFlight.push(file.folioAt(0).isWriteback);
  };
  expect(await fileWriteAndWaitRange(file.file, 0, Infinity)).toBe(0);
  expect(isInFlight).toEqual([true]);
  expect(file.folioAt(0).isWriteback).toBe(false);
});

test("W120 a walk that waits for a page submits what it holds back, so that others can end", async () => {
  const file = plainFile(6);
  file.dirty(0, 5);
  const last = file.folioAt(5);
  last.tryLock();
  const other = Promise.resolve(file.folioAt(3).waitWriteback()).then(async () => {
    await file.clock.turn(); // Page 3 was not in flight; now it is, in a bio under construction.
    await file.folioAt(3).waitWriteback();
    last.unlock();
  });
  expect(await fileWriteAndWaitRange(file.file, 0, Infinity)).toBe(0);
  await other;
  expect(file.device.bios).toEqual(["W[100-104]S", "W[105]S"]);
});

test("W120 a plug that its owner forgets before it waits is flushed all the same", async () => {
  const file = plainFile(4);
  const folio = file.lockedFolio(3);
  folio.markUptodate();
  folio.startWriteback();
  folio.unlock();
  const bio = new Bio(REQ_OP_WRITE, 0, 103 * PAGE_BYTES, () => folio.endWriteback());
  bio.addVector(folio.bytes);
  const plug = new Plug();
  file.inner.submitBio(bio, plug);
  expect(plug.length).toBe(1);
  await folio.waitWriteback();
  expect(folio.isWriteback).toBe(false);
});

test("W121 two walks over the same pages, each with bios held back, both end", async () => {
  for (const seed of [1, 2, 3]) {
    const random = new Random(seed);
    const file = plainFile(900);
    file.dirty(0, 899);
    for (let call = 0; call < 40; call++) {
      file.store.inject({ op: "write", delayMs: random.below(30) + 1 });
    }
    // Blocks that take a while to be found have the walks take turns; some pages change meanwhile.
    file.getBlockHook = (_inode, fileBlock, map) => {
      if (fileBlock % 7 === 0) file.folioAt(random.below(900)).markDirty();
      if (random.below(50) > 0) return file.mapBlock(fileBlock, map);
      return file.clock.turn().then(() => file.mapBlock(fileBlock, map));
    };
    let overCount = 0;
    const walks = [
      filemapFdatawriteRange(file.mapping, 0, 601 * PAGE_BYTES - 1),
      filemapFdatawriteRange(file.mapping, 400 * PAGE_BYTES, Infinity),
    ].map(async (walk) => {
      expect(await walk, `seed ${seed}`).toBe(0);
      overCount++;
    });
    for (let ms = 0; ms < 20_000 && overCount < 2; ms += 10) await file.clock.advance(10);
    expect(overCount, `seed ${seed}`).toBe(2);
    await Promise.all(walks);
    while (file.mapping.pages.marked(MARK_WRITEBACK)) await file.clock.advance(10);
    expect(file.cache.lockedCount).toBe(0);
    file.cache.verify();
  }
});

test("W122 a store that needs stable pages gets the bytes of the submission", async () => {
  const file = new WrittenFile({ pages: 1, stableWrites: true });
  file.dirty(0);
  const submitted = file.folio(0).bytes.slice();
  file.script.gated = () => true;
  expect(now(file.writePages(WB_SYNC_NONE))).toBe(0);
  const writing = file.write(0, new Uint8Array(PAGE_BYTES).fill(9));
  await file.settle();
  expect(file.folio(0).bytes).toEqual(submitted);
  file.script.releaseWrites();
  expect(file.script.stored.get(0)).toEqual(submitted);
  expect(await writing).toBe(PAGE_BYTES);
  expect(file.folio(0).isDirty).toBe(true);
});

test("W122 without that a writer does not wait, and a later flush makes the store equal", async () => {
  const file = new WrittenFile({ pages: 1 });
  file.dirty(0);
  file.script.gated = () => true;
  expect(now(file.writePages(WB_SYNC_NONE))).toBe(0);
  expect(now(file.write(0, new Uint8Array(PAGE_BYTES).fill(9)))).toBe(PAGE_BYTES);
  file.script.releaseWrites();
  expect(file.folio(0).isDirty).toBe(true);
  file.script.gated = () => false;
  expect(await file.fsync()).toBe(0);
  expect(file.script.stored.get(0)).toEqual(file.folio(0).bytes);
});

test("W123 a flush of 100,000 pages gives the loop a turn every 5 ms, not per page", async () => {
  withExactArenas(); // For 100,000 dirty pages at a time.
  const pages = 100_000;
  const costMs = 0.02;
  const file = new WrittenFile({ pages, arenaBytes: 512 * MIB });
  for (let index = 0; index < pages; index++) {
    const folio = file.cache.allocFolio(0)!;
    file.mapping.addFolio(folio, index);
    folio.endRead(true);
    folio.put();
    folio.markDirty();
  }
  const { clock } = file;
  let turnAtMs = 0;
  let longestMs = 0;
  const { turn } = clock;
  clock.turn = () => {
    longestMs = Math.max(longestMs, clock.nowMs() - turnAtMs);
    turnAtMs = clock.nowMs();
    return turn.call(clock);
  };
  file.script.onWritepage = (folio) => {
    clock.spend(costMs);
    folio.startWriteback();
    folio.unlock();
    folio.endWriteback();
    return 0;
  };
  expect(await file.fsync()).toBe(0);
  expect(file.mapping.pages.marked(MARK_DIRTY)).toBe(false);
  expect(longestMs).toBeLessThanOrEqual(5);
  expect(clock.turnCount).toBeGreaterThan((pages * costMs) / 5 - 1);
  expect(clock.turnCount).toBeLessThan((pages * costMs) / 3);
});

interface Throwing {
  readonly what: string;
  readonly script: (file: BlockMappedFile) => void;
  readonly errno: number;
}

const throwing: Throwing[] = [
  {
    what: "getBlock throws",
    script: (file) => {
      file.getBlockHook = (_inode, fileBlock, map) => {
        if (fileBlock === 1) throw new Error("from a driver");
        return file.mapBlock(fileBlock, map);
      };
    },
    errno: -EIO,
  },
  {
    what: "getBlock rejects",
    script: (file) => {
      file.getBlockHook = (_inode, fileBlock, map) =>
        fileBlock === 1 ? Promise.reject(new FsError("ENOSPC")) : file.mapBlock(fileBlock, map);
    },
    errno: -ENOSPC,
  },
  {
    what: "the store rejects",
    script: (file) => file.store.inject({ op: "write" }),
    errno: -EIO,
  },
];

for (const { what, script, errno } of throwing) {
  for (const onWriteError of ["drop", "keep"] as const) {
    test(`W124 ${what} (${onWriteError}): an error, and nothing is left locked`, async () => {
      const file = plainFile(3, onWriteError);
      file.dirty(0, 2);
      script(file);
      expect(await fileWriteAndWaitRange(file.file, 0, Infinity)).toBe(errno);
      expect([file.cache.lockedCount, file.cache.nrWriteback]).toEqual([0, 0]);
      expect(file.mapping.pages.marked(MARK_DIRTY)).toBe(onWriteError === "keep");
      file.cache.verify();
    });
  }
}

for (const onWriteError of ["drop", "keep"] as const) {
  for (const when of ["throws", "rejects", "throws when the write has begun"] as const) {
    test(`W124 writepage ${when} (${onWriteError}): EIO, and the other pages are written`, async () => {
      const file = new WrittenFile({ onWriteError });
      file.dirty(0, 1, 2);
      file.script.onWritepage = (folio) => {
        if (folio.index !== 1) return undefined;
        if (when === "rejects") return Promise.reject(new Error("from a driver"));
        if (when !== "throws") folio.startWriteback();
        throw new Error("from a driver");
      };
      expect(await file.fsync()).toBe(-EIO);
      expect(file.written).toEqual([0, 2]);
      expect(file.folio(1).isDirty).toBe(onWriteError === "keep");
      expect(file.mapping.writeFailure).toMatchObject({ message: "from a driver" });
      file.expectAtRest();
    });
  }
}

test("W124 writeBegin or writeEnd throws: the write fails, and leaves no page locked", async () => {
  const file = new WrittenFile();
  const bytes = new Uint8Array(10);
  file.clean(0);
  file.script.onWriteBegin = () => {
    throw new FsError("ENOSPC");
  };
  expect(await file.write(0, bytes)).toBe(-ENOSPC);
  file.script.onWriteBegin = () => Promise.reject(new Error("from a driver"));
  expect(await file.write(0, bytes)).toBe(-EIO);
  file.script.onWriteBegin = () => 0;
  for (const end of [() => Promise.reject(new Error("later")), () => raise(new Error("now"))]) {
    Object.assign(file.script, { writeEnd: end });
    expect(await file.write(0, bytes)).toBe(-EIO);
    expect(file.folio(0).refs).toBe(1);
  }
  file.expectAtRest();
});

function raise(error: Error): never {
  throw error;
}

test("W124 writepages throws: an error of the walk and of the mapping", async () => {
  const file = new WrittenFile();
  file.dirty(0);
  file.script.writepages = () => raise(new FsError("ENOSPC"));
  expect(await file.fsync()).toBe(-ENOSPC);
  file.script.writepages = () => Promise.reject(new Error("from a driver"));
  expect(await file.fsync()).toBe(-EIO);
  file.expectAtRest();
});

test("W125 the last pages of the largest file are written at their places", async () => {
  const file = new WrittenFile({ pages: 0 });
  const places = [5 * 2 ** 30, 2 ** 43, FILE_BYTES_MAX - PAGE_BYTES];
  for (const [at, posBytes] of places.entries()) {
    expect(await file.write(posBytes, new Uint8Array(PAGE_BYTES).fill(at + 1))).toBe(PAGE_BYTES);
  }
  expect(now(file.writePages(WB_SYNC_NONE, { rangeCyclic: true, nrToWrite: 3 }))).toBe(0);
  expect(file.written).toEqual([1310720, 2147483648, 4294967295]);
  expect(file.mapping.writebackIndex).toBe(0);
  expect(await file.fsync()).toBe(0);
  expect(await invalidateInodePages2(file.mapping)).toBe(0);
  for (const [at, posBytes] of places.entries()) {
    const into = new Uint8Array(PAGE_BYTES);
    expect(await filemapRead({ file: file.file, posBytes, flags: 0 }, into)).toBe(PAGE_BYTES);
    expect(into).toEqual(new Uint8Array(PAGE_BYTES).fill(at + 1));
  }
  file.expectAtRest();
});

test("W125 a write behind the largest file is EFBIG and caches nothing; one across its end is cut", () => {
  const file = new WrittenFile({ sizeBytes: FILE_BYTES_MAX - PAGE_BYTES });
  const bytes = new Uint8Array(2 * PAGE_BYTES);
  expect(now(file.write(FILE_BYTES_MAX, bytes))).toBe(-EFBIG);
  expect(file.mapping.nrpages).toBe(0);
  expect(now(file.write(FILE_BYTES_MAX - PAGE_BYTES, bytes))).toBe(PAGE_BYTES);
  expect([file.mapping.nrpages, file.script.size]).toEqual([1, FILE_BYTES_MAX]);
});

test("W128 one page in flight and dirty is waited for, written again, and waited for", async () => {
  const file = new WrittenFile();
  const folio = file.startWrite(0);
  folio.markDirty();
  file.script.gated = () => true;
  folio.tryLock();
  const writing = writeOneFolio(folio);
  await file.settle();
  expect(file.written).toEqual([]);
  file.script.releaseWrites();
  await file.settle();
  expect([file.written, folio.isLocked, folio.isWriteback]).toEqual([[0], false, true]);
  file.script.releaseWrites();
  expect(await writing).toBe(0);
  expect([folio.isDirty, folio.isWriteback, folio.refs]).toEqual([false, false, 1]);
});

test("W128 a clean page is unlocked, and a failure is told once", async () => {
  const file = new WrittenFile();
  const folio = file.clean(0);
  folio.tryLock();
  expect(await writeOneFolio(folio)).toBe(0);
  expect([file.written, folio.isLocked]).toEqual([[], false]);
  file.script.writeStatuses.set(0, [-EIO]);
  folio.markDirty();
  folio.tryLock();
  expect(await writeOneFolio(folio)).toBe(-EIO);
  folio.tryLock();
  expect(await writeOneFolio(folio)).toBe(0);
  file.expectAtRest();
});
