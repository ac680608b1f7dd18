import { expect, test } from "vitest";
import {
  H,
  inlineMapping,
  M,
  range,
  ScriptFs,
  scriptMapping,
  U,
} from "../../../test/support/script-fs.ts";
import { openCacheFile } from "../../cache/cache-file.ts";
import { filemapRead } from "../../cache/filemap.ts";
import { forcePageCacheRa, ReadaheadControl } from "../../cache/readahead.ts";
import { AssertionError } from "../../lib/assert.ts";
import { EIO, ENOMEM, FsError } from "../../lib/errno.ts";
import type { TraceEvent } from "../../lib/trace.ts";
import { iomapReadahead, iomapReadFolio } from "./buffered-read.ts";
import { iomapInvalidateFolio, iomapReleaseFolio } from "./callbacks.ts";
import { iomapFinishFolioRead } from "./finish-read.ts";
import { IOMAP_INLINE } from "./iomap.ts";
import type { IomapReadOps } from "./read-ops.ts";

async function readFile(fs: ScriptFs, posBytes: number, lengthBytes: number): Promise<Uint8Array> {
  const into = new Uint8Array(lengthBytes);
  const file = openCacheFile(fs.mapping);
  const count = await filemapRead({ file, posBytes, flags: 0 }, into);
  if (count < 0) throw FsError.of(count);
  return into.subarray(0, count);
}

/** Hooks that fill with 7 and complete, all in a later microtask. */
const lateReadOps: IomapReadOps = {
  async readFolioRange(iter, ctx, lengthBytes) {
    const folio = ctx.folio!;
    const offsetBytes = iter.posBytes - folio.posBytes;
    await Promise.resolve();
    folio.bytes.fill(7, offsetBytes, offsetBytes + lengthBytes);
    iomapFinishFolioRead(folio, offsetBytes, lengthBytes, 0);
  },
};

test("a hook may wait: folios and ranges follow each other all the same", async () => {
  const fs = new ScriptFs([M(0, 20480), H(20480, 24576), M(24576, 49152)], {
    sizeBytes: 49152,
    raPages: 12,
    readOps: lateReadOps,
  });
  await forcePageCacheRa(openCacheFile(fs.mapping), 0, 12);
  const expected = new Uint8Array(49152).fill(7);
  expected.fill(0, 20480, 24576);
  expect(fs.cache.lockedCount).toBe(0);
  expect(fs.mapping.nrpages).toBe(12);
  expect(await readFile(fs, 0, 49152)).toEqual(expected);
  expect(fs.calls.filter((call) => call.startsWith("begin")).length).toBe(3);
});

test("a folio that ends with a hole is readable before the next begin has answered", async () => {
  const fs = new ScriptFs([U(0, 16384), M(16384, 32768)], { sizeBytes: 32768, raPages: 8 });
  let answer = (): void => {};
  const answered = new Promise<void>((resolve) => {
    answer = resolve;
  });
  fs.onBegin = ({ posBytes }) => (posBytes === 16384 ? answered : undefined);
  const started = forcePageCacheRa(openCacheFile(fs.mapping), 0, 8);
  expect(fs.mapping.folioAt(0)!.isUptodate).toBe(true);
  expect(fs.mapping.folioAt(4)!.isLocked).toBe(true);
  answer();
  await started;
  await fs.settle();
  expect(fs.mapping.folioAt(4)!.isUptodate).toBe(true);
});

test("the same where the hook has to wait", async () => {
  const fs = new ScriptFs([M(0, 16384), M(16384, 32768)], {
    sizeBytes: 32768,
    raPages: 8,
    readOps: lateReadOps,
  });
  fs.fillBlocks(fs.addFolio(0), [0], 7); // So that the folio is not handed over as a whole.
  fs.addFolio(16384);
  let wasUptodate: boolean | undefined;
  fs.onBegin = ({ posBytes }) => {
    if (posBytes === 16384) wasUptodate = fs.mapping.folioAt(0)?.isUptodate;
  };
  await iomapReadahead(new ReadaheadControl(fs.mapping, null, 0, 8), fs, lateReadOps);
  expect(wasUptodate).toBe(true);
  expect(fs.cache.lockedCount).toBe(0);
});

test("a hook that throws for a range ends the read after what is under way", () => {
  let count = 0;
  const folioOf = new ScriptFs([M(0, 4096), M(4096, 8192, 0), M(8192, 16384)], {
    sizeBytes: 16384,
  });
  const pending: (() => void)[] = [];
  const readOps: IomapReadOps = {
    readFolioRange(iter, ctx, lengthBytes) {
      if (++count === 2) throw new FsError("ENOMEM");
      const folio = ctx.folio!;
      const { posBytes } = iter;
      pending.push(() => iomapFinishFolioRead(folio, posBytes, lengthBytes, 0));
    },
  };
  const folio = folioOf.addFolio(0);
  expect(iomapReadFolio(folio, folioOf, readOps)).toBe(-ENOMEM);
  expect(folio.isLocked).toBe(true);
  pending[0]!();
  expect([folio.isLocked, folio.isUptodate]).toEqual([false, false]);
  expect(folioOf.uptodateBlocks(folio)).toEqual([0, 1, 2, 3]);
});

test("a hook that throws for the first range leaves the folio unlocked", () => {
  const fs = new ScriptFs([M(0, 16384)], { sizeBytes: 16384 });
  const readOps: IomapReadOps = {
    readFolioRange() {
      throw new FsError("ENOMEM");
    },
  };
  const folio = fs.addFolio(0);
  expect(iomapReadFolio(folio, fs, readOps)).toBe(-ENOMEM);
  expect(folio.isLocked).toBe(false);
  expect(folio.blockState?.readPendingBytes).toBe(0);
});

test.each(["at once", "later"])(
  "a failed assertion is not made an I/O error (%s)",
  async (when) => {
    const fs = new ScriptFs([M(0, 16384)], { sizeBytes: 16384 });
    fs.onBegin = () => {
      const bug = new AssertionError("a bug");
      if (when === "later") return Promise.reject(bug);
      throw bug;
    };
    const folio = fs.addFolio(0);
    await expect((async () => iomapReadFolio(folio, fs))()).rejects.toThrow("a bug");
    expect(folio.isLocked).toBe(false);
  },
);

test("a file of length 0 and a folio behind the end are zeros", () => {
  const fs = new ScriptFs([M(0, 32768)], { sizeBytes: 0 });
  const folio = fs.addFolio(16384);
  folio.bytes.fill(0xaa);
  expect(iomapReadFolio(folio, fs)).toBe(0);
  expect(folio.isUptodate).toBe(true);
  expect(folio.bytes).toEqual(new Uint8Array(16384));
  expect(fs.requests).toEqual([]);
});

test("inline data may be larger than a folio", async () => {
  const data = Uint8Array.from(range(0, 9999), (value) => 1 + (value % 250));
  const fs = new ScriptFs([inlineMapping(data)], { sizeBytes: 9000, order: 0, raPages: 3 });
  expect(await readFile(fs, 0, 10000)).toEqual(data.subarray(0, 9000));
  expect(fs.mapping.folioAt(2)!.bytes.subarray(808)).toEqual(new Uint8Array(4096 - 808));
  expect(fs.calls.filter((call) => call.startsWith("begin")).length).toBe(1);
  expect(fs.cache.lockedCount).toBe(0);
});

test("inline data may be the tail of a file with blocks", () => {
  const tail = Uint8Array.from(range(1, 100));
  const inline = scriptMapping(IOMAP_INLINE, 8192, 8292, { inlineData: tail });
  const fs = new ScriptFs([M(0, 8192), inline], { sizeBytes: 8292 });
  const folio = fs.addFolio(0);
  fs.device.isHeld = true;
  expect(iomapReadFolio(folio, fs)).toBe(0);
  expect(fs.uptodateBlocks(folio)).toEqual(range(8, 15));
  fs.device.completeAll();
  expect(folio.isUptodate).toBe(true);
  expect(folio.bytes).toEqual(fs.expected(0, 16384));
});

test("releaseFolio gives up the state of the blocks, and the next read has it anew", async () => {
  const fs = new ScriptFs([M(0, 16384)], { sizeBytes: 16384 });
  await readFile(fs, 0, 10);
  const folio = fs.mapping.folioAt(0)!;
  expect(folio.blockState).not.toBeNull();
  expect(iomapReleaseFolio(folio)).toBe(true);
  expect(folio.blockState).toBeNull();
  expect(fs.uptodateBlocks(folio)).toEqual(range(0, 15));
});

test("invalidateFolio of a part changes nothing, of the whole it forgets the blocks", () => {
  const fs = new ScriptFs([M(0, 16384)], { sizeBytes: 16384 });
  const folio = fs.addFolio(0);
  fs.fillBlocks(folio, [4], 0x55);
  iomapInvalidateFolio(folio, 4096, 4096);
  expect(fs.uptodateBlocks(folio)).toEqual([4]);
  iomapInvalidateFolio(folio, 0, 16384);
  expect(folio.blockState).toBeNull();
});

test("events tell what is read, from which mappings, and what failed", async () => {
  const fs = new ScriptFs([M(0, 4096), H(4096, 16384)], { sizeBytes: 16384 });
  const events: TraceEvent[] = [];
  fs.cache.trace.on((event) => events.push(event));
  fs.device.statusOf = () => -EIO;
  await expect(readFile(fs, 0, 10)).rejects.toMatchObject({ code: "EIO" });
  const iomapEvents = events.filter(({ name }) => name.startsWith("iomap_"));
  const one = iomapEvents.slice(0, 6).map(({ name }) => name);
  expect(one).toEqual([
    "iomap_read_folio",
    "iomap_iter",
    "iomap_iter_dstmap",
    "iomap_iter",
    "iomap_iter_dstmap",
    "iomap_io_error",
  ]);
  expect(iomapEvents[5]).toEqual({
    name: "iomap_io_error",
    kind: "bufferedRead",
    ino: 12,
    posBytes: 0,
    lengthBytes: 4096,
    error: -EIO,
  });
});
