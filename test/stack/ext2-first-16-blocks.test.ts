/**
 * The example of the manual page of `mpage_readahead` on an image of the real mke2fs, seen at the
 * block device: 16 blocks of a file in ext2, whose indirect block lies behind the first twelve.
 *
 *     device   first ..+11 | first+12  | first+13 ..+16
 *     file     0 .. 11     | indirect  | 12 .. 15
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { StoreBlockDevice } from "../../src/block/block-device.ts";
import type { AddressSpaceOperations } from "../../src/cache/address-space.ts";
import { type CacheFile, openCacheFile } from "../../src/cache/cache-file.ts";
import { filemapRead } from "../../src/cache/filemap.ts";
import { PageCache } from "../../src/cache/page-cache.ts";
import { type ExtFileSystem, mountExt } from "../../src/fs/ext/ext-fs.ts";
import { extGetBlock } from "../../src/fs/ext/get-block.ts";
import type { ExtInode } from "../../src/fs/ext/inode.ts";
import { realClock } from "../../src/lib/clock.ts";
import { andThen } from "../../src/lib/maybe.ts";
import { Random } from "../../src/lib/random.ts";
import { MIB } from "../../src/lib/units.ts";
import { type GetBlock, mpageReadahead, mpageReadFolio } from "../../src/mapping/mpage.ts";
import { openFileStore } from "../../src/store/file-store.ts";
import { makeExtImage } from "../support/kernel-image.ts";
import { RecordingDevice } from "../support/recording-device.ts";
import { requireTool, runTool, scratchDirectory } from "../support/tools.ts";

const hasMke2fs = ["mke2fs", "debugfs"].every(requireTool);
const scratch = scratchDirectory("ext2-first-16-blocks");
const BLOCK_BYTES = 4096;
const BLOCK_COUNT = 16;
const content = new Random(16).bytes(BLOCK_COUNT * BLOCK_BYTES);

let image = "";
/** Device block of the file's first one, by debugfs. */
let first = 0;

/**
 * Reads the whole file through what `openFile` gives, and returns the bios that this took, counted
 * from the file's first block.
 */
async function biosOfReading(
  openFile: (
    fs: ExtFileSystem,
    inode: ExtInode,
    cache: PageCache,
  ) => CacheFile | Promise<CacheFile>,
): Promise<string[]> {
  const store = await openFileStore(image);
  const inner = new StoreBlockDevice(store, { clock: realClock });
  const device = new RecordingDevice(inner, BLOCK_BYTES);
  const cache = new PageCache({ arenaBytes: 4 * MIB, clock: realClock });
  const fs = await mountExt(device, cache, { clock: realClock });
  const root = await fs.inode(fs.rootIno);
  const inode = await fs.inode(await fs.lookup(root, new TextEncoder().encode("file")));
  const file = await openFile(fs, inode, cache);
  device.events.length = 0;
  const into = new Uint8Array(content.length);
  expect(await filemapRead({ file, posBytes: 0, flags: 0 }, into)).toBe(into.length);
  expect(Buffer.compare(into, content)).toBe(0);
  const events = device.events.map((event) =>
    event.replace(/\d+/g, (block) => `${Number(block) - first}`),
  );
  await fs.close();
  await inner.close();
  await store.close();
  return events;
}

describe.skipIf(!hasMke2fs)("the first 16 blocks of a file in ext2", () => {
  beforeAll(() => {
    const source = join(scratch, "source");
    mkdirSync(source);
    writeFileSync(join(source, "file"), content);
    image = join(scratch, "ext2.img");
    makeExtImage(image, "8M", ["-t", "ext2", "-b", `${BLOCK_BYTES}`, "-d", source]);
    const blocks = runTool("debugfs", ["-R", "blocks /file", image])
      .trim()
      .split(/\s+/)
      .map(Number);
    first = blocks[0]!;
    // debugfs lists the indirect block where the map meets it: before the blocks that it points to.
    expect(blocks).toEqual(Array.from({ length: BLOCK_COUNT + 1 }, (_, at) => first + at));
  });

  test("W54 on the real ext2 driver data leaves before the indirect block is read", async () => {
    const bios = await biosOfReading(async (fs, inode) => await fs.openFile(inode));
    expect(bios).toEqual(["R[0-11]A", "R[12]M", "R[13-16]A"]);
  });

  test("W53 on the real ext2 driver, its flag hidden, the indirect block is first", async () => {
    const bios = await biosOfReading((fs, inode, cache) => {
      const real = extGetBlock(fs.core);
      const getBlock: GetBlock = (host, fileBlock, map, create) =>
        andThen(real(host, fileBlock, map, create), (errno) => {
          map.isBoundary = false;
          return errno;
        });
      const ops: AddressSpaceOperations = {
        readFolio: (_file, folio) => mpageReadFolio(folio, getBlock),
        readahead: (rac) => mpageReadahead(rac, getBlock),
      };
      inode.mapping = cache.openMapping(inode, ops);
      return openCacheFile(inode.mapping);
    });
    expect(bios).toEqual(["R[12]M", "R[0-11]A", "R[13-16]A"]);
  });
});
