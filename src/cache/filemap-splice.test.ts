import { expect, test } from "vitest";
import { CachedFile } from "../../test/support/cached-file.ts";
import { expectedBytes } from "../../test/support/scripted-file.ts";
import { EINVAL, EIO } from "../lib/errno.ts";
import { Random } from "../lib/random.ts";
import { PAGE_BYTES } from "../lib/units.ts";
import { filemapRead } from "./filemap.ts";
import { FolioPipe, filemapSpliceRead } from "./filemap-splice.ts";

function bytesOf(pipe: FolioPipe): Buffer {
  return Buffer.concat(pipe.views);
}

test("views are the bytes of the file, whatever is cached and wherever the read begins", async () => {
  const random = new Random(7);
  const sizeBytes = 200 * PAGE_BYTES + 123;
  const { file } = new CachedFile({ sizeBytes });
  const pipe = new FolioPipe();
  for (let turn = 0; turn < 200; turn++) {
    const posBytes = random.below(sizeBytes + PAGE_BYTES);
    const lengthBytes = random.below(40 * PAGE_BYTES);
    const count = Math.max(0, Math.min(lengthBytes, sizeBytes - posBytes));
    const iocb = { file, posBytes, flags: 0 };
    expect(await filemapSpliceRead(iocb, lengthBytes, pipe)).toBe(count);
    expect(iocb.posBytes).toBe(posBytes + count);
    expect(bytesOf(pipe).equals(expectedBytes(posBytes, count))).toBe(true);
    pipe.release();
    expect(pipe.views).toEqual([]);
  }
});

test("a view is the memory of the cache, which is kept until it is released", async () => {
  const fixture = new CachedFile({ sizeBytes: 4 * PAGE_BYTES });
  const { file } = fixture;
  const pipe = new FolioPipe();
  await filemapSpliceRead({ file, posBytes: 0, flags: 0 }, 2 * PAGE_BYTES, pipe);
  const folio = file.mapping.folioAt(0)!;
  const { refs } = folio;
  expect(pipe.views[0]!.buffer).toBe(folio.bytes.buffer);
  pipe.release();
  expect(folio.refs).toBe(refs - 1);
  file.mapping.cache.verify();
});

test("it counts and moves readahead on as a read does", async () => {
  const spliced = new CachedFile({ sizeBytes: 256 * PAGE_BYTES });
  const copied = new CachedFile({ sizeBytes: 256 * PAGE_BYTES });
  const pipe = new FolioPipe();
  const into = new Uint8Array(8 * PAGE_BYTES);
  for (let at = 0; at < 256 * PAGE_BYTES; at += into.length) {
    await filemapSpliceRead({ file: spliced.file, posBytes: at, flags: 0 }, into.length, pipe);
    pipe.release();
    await filemapRead({ file: copied.file, posBytes: at, flags: 0 }, into);
  }
  expect(spliced.script.log).toEqual(copied.script.log);
  expect(spliced.file.ra.prevPos).toBe(copied.file.ra.prevPos);
});

test("an error ends it: what came before counts, and the next read meets it", async () => {
  const fixture = new CachedFile({ sizeBytes: 8 * PAGE_BYTES, raPages: 4 });
  fixture.script.failures.set(2, 3);
  const pipe = new FolioPipe();
  const iocb = { file: fixture.file, posBytes: 0, flags: 0 };
  expect(await filemapSpliceRead(iocb, 4 * PAGE_BYTES, pipe)).toBe(2 * PAGE_BYTES);
  expect(bytesOf(pipe).length).toBe(2 * PAGE_BYTES);
  pipe.release();
  expect(await filemapSpliceRead(iocb, PAGE_BYTES, pipe)).toBe(-EIO);
  expect(pipe.views).toEqual([]);
  iocb.posBytes = -1;
  expect(await filemapSpliceRead(iocb, 1, pipe)).toBe(-EINVAL);
});
