/**
 * `GetBlock` of ext2/3/4 for mpage: block-mapped inodes, whose map knows runs within one array of
 * pointers and says where the next read of a pointer block is due (`ext4_get_block`).
 */
import { isPromise } from "../../lib/maybe.ts";
import type { BlockMap, GetBlock } from "../../mapping/get-block.ts";
import type { MappedRun } from "./context.ts";
import type { ExtCore } from "./core.ts";
import type { ExtInode } from "./inode.ts";
import { noteFailure } from "./read-failure.ts";

/**
 * The mapper of block-mapped inodes of `core`. It waits only for pointer blocks that are not
 * cached.
 */
export function extGetBlock(core: ExtCore): GetBlock {
  const fill = (map: BlockMap, run: MappedRun): number => {
    if (run.physical === 0) return 0;
    map.isMapped = true;
    map.blocknr = run.physical;
    map.sizeBytes = run.count * core.sb.blockBytes;
    map.isBoundary = run.isBoundary;
    map.bdev = core.bdev;
    return 0;
  };
  return (inode, fileBlock, map) => {
    const maxCount = Math.max(1, Math.floor(map.sizeBytes / core.sb.blockBytes));
    const file = inode as ExtInode;
    const run = noteFailure(file, () =>
      core.metadata.run(() => core.mapBlocks(file, fileBlock, maxCount)),
    );
    return isPromise(run) ? run.then((mapped) => fill(map, mapped)) : fill(map, run);
  };
}
