/**
 * Acceptance cases W53 and W54 on the real ext2 driver: the file of the manual page, 16 blocks of
 * a page each, whose indirect block lies behind the first twelve.
 */
import { expect, test } from "vitest";
import type { AddressSpaceOperations } from "../../../src/cache/address-space.ts";
import { openCacheFile } from "../../../src/cache/cache-file.ts";
import { filemapRead } from "../../../src/cache/filemap.ts";
import { FileMappings } from "../../../src/fs/ext/file-ops.ts";
import { extGetBlock } from "../../../src/fs/ext/get-block.ts";
import type { ExtInode } from "../../../src/fs/ext/inode.ts";
import { SB } from "../../../src/fs/ext/layout.ts";
import { putLe32 } from "../../../src/lib/bytes.ts";
import { andThen } from "../../../src/lib/maybe.ts";
import { type GetBlock, mpageReadahead, mpageReadFolio } from "../../../src/mapping/mpage.ts";
import { fileWith, makeTestCore, superblockWith, type TestCore } from "../../support/ext-core.ts";
import { RecordingDevice } from "../../support/recording-device.ts";

/** ext2 with blocks of 4 KiB. */
const EXT2 = superblockWith(
  [SB.s_log_block_size, 2],
  [SB.s_first_data_block, 0],
  [SB.s_blocks_count_lo, 1000],
  [SB.s_feature_ro_compat, 3],
  [SB.s_feature_incompat, 2],
);
const BLOCK_BYTES = 4096;
const FIRST = 100;
const INDIRECT = FIRST + 12;
const BLOCK_COUNT = 16;

interface TestFile extends TestCore {
  readonly inode: ExtInode;
  readonly device: RecordingDevice;
}

/** File blocks 0..11 from 100 on, the indirect block at 112, file blocks 12..15 at 113..116. */
function manualPageFile(): TestFile {
  let device: RecordingDevice | undefined;
  const parts = makeTestCore(EXT2, (bdev) => {
    device = new RecordingDevice(bdev, BLOCK_BYTES);
    return device;
  });
  const iBlock = new Uint8Array(60);
  for (let slot = 0; slot < 12; slot++) putLe32(iBlock, slot * 4, FIRST + slot);
  putLe32(iBlock, 12 * 4, INDIRECT);
  for (let at = 0; at < 4; at++) putLe32(parts.block(INDIRECT), at * 4, INDIRECT + 1 + at);
  for (let at = 0; at < BLOCK_COUNT; at++) {
    parts.block(at < 12 ? FIRST + at : INDIRECT + 1 + at - 12).fill(at + 1);
  }
  const inode = fileWith(EXT2, iBlock, false);
  inode.size = BLOCK_COUNT * BLOCK_BYTES;
  return { ...parts, inode, device: device! };
}

async function readWhole(file: TestFile): Promise<void> {
  const into = new Uint8Array(file.inode.size);
  const iocb = { file: openCacheFile(file.inode.mapping!), posBytes: 0, flags: 0 };
  expect(await filemapRead(iocb, into)).toBe(into.length);
  for (let at = 0; at < BLOCK_COUNT; at++) {
    const block = into.subarray(at * BLOCK_BYTES, (at + 1) * BLOCK_BYTES);
    expect(block.every((byte) => byte === at + 1)).toBe(true);
  }
}

test("W54 ext2 says where its pointers end, so data leaves before the indirect block", async () => {
  const file = manualPageFile();
  new FileMappings(file.core, file.cache).of(file.inode);
  await readWhole(file);
  expect(file.device.events).toEqual(["R[100-111]A", "R[112]M", "R[113-116]A"]);
});

test("W53 the same driver with its flag hidden reads the indirect block first", async () => {
  const file = manualPageFile();
  const real = extGetBlock(file.core);
  const getBlock: GetBlock = (inode, fileBlock, map, create) =>
    andThen(real(inode, fileBlock, map, create), (errno) => {
      map.isBoundary = false;
      return errno;
    });
  const ops: AddressSpaceOperations = {
    readFolio: (_file, folio) => mpageReadFolio(folio, getBlock),
    readahead: (rac) => mpageReadahead(rac, getBlock),
  };
  file.inode.mapping = file.cache.openMapping(file.inode, ops);
  await readWhole(file);
  expect(file.device.events).toEqual(["R[112]M", "R[100-111]A", "R[113-116]A"]);
});
