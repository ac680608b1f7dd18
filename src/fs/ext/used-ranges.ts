/**
 * Which blocks of a file system are in use and which are free, as stretches of its device: for
 * copies that leave out what is free, and for `trim`.
 *
 *     bitmap of group 0   1111110000111..    group 1   UNINIT: its own tables alone
 *                         in use    free
 *
 * A bitmap on which no checksum lies is believed; blocks in front of the first one belong to the
 * boot loader and count as in use.
 */
import { isPromise, type MaybeAsync } from "../../lib/maybe.ts";
import type { ByteRange } from "../vfs-write.ts";
import { nextOneBit, nextZeroBit, wordsOf } from "./bitmap.ts";
import type { ExtCore } from "./core.ts";
import { copyBlocksIn, type GroupDescriptor } from "./group.ts";
import { BG_BLOCK_UNINIT } from "./layout.ts";

/** A run of blocks. */
export interface BlockRun {
  readonly first: number;
  readonly count: number;
}

/** Runs in use of a group whose bitmap was never written: what `mke2fs` put there. */
function runsOfUninit(core: ExtCore, descriptor: GroupDescriptor): BlockRun[] {
  const { sb } = core;
  const { group, blockBitmap, inodeBitmap, inodeTable } = descriptor;
  const first = sb.firstBlockOf(group);
  const end = Math.min(first + sb.blocksPerGroup, sb.blockCount);
  const runs = [
    { first, count: copyBlocksIn(sb, group) },
    { first: blockBitmap, count: 1 },
    { first: inodeBitmap, count: 1 },
    { first: inodeTable, count: sb.inodeTableBlockCount },
  ];
  const own = runs.filter((run) => run.count > 0 && run.first >= first && run.first < end);
  return own.sort((a, b) => a.first - b.first);
}

/** Runs of `group` that are in use, or that are free, in order. Restartable. */
function runsOf(core: ExtCore, group: number, isUsed: boolean): BlockRun[] {
  const { sb, metadata } = core;
  const descriptor = core.descriptor(group);
  const first = sb.firstBlockOf(group);
  const blockCount = Math.min(sb.blocksPerGroup, sb.blockCount - first);
  if ((descriptor.flags & BG_BLOCK_UNINIT) !== 0) {
    const used = runsOfUninit(core, descriptor);
    return isUsed ? used : gapsBetween(used, first, first + blockCount);
  }
  const words = wordsOf(metadata.block(descriptor.blockBitmap));
  const ratio = sb.clusterRatio;
  const end = Math.ceil(blockCount / ratio);
  const [begins, ends] = isUsed ? [nextOneBit, nextZeroBit] : [nextZeroBit, nextOneBit];
  const runs: BlockRun[] = [];
  for (let from = begins(words, 0, end); from < end; ) {
    const to = ends(words, from, end);
    const count = Math.min(to * ratio, blockCount) - from * ratio;
    runs.push({ first: first + from * ratio, count });
    from = begins(words, to, end);
  }
  return runs;
}

function gapsBetween(used: readonly BlockRun[], first: number, end: number): BlockRun[] {
  const gaps: BlockRun[] = [];
  let at = first;
  for (const run of used) {
    if (run.first > at) gaps.push({ first: at, count: run.first - at });
    at = Math.max(at, run.first + run.count);
  }
  if (at < end) gaps.push({ first: at, count: end - at });
  return gaps;
}

/** The free runs of blocks of `group` as they are now, in order. */
export function freeRunsOf(
  core: ExtCore,
  group: number,
  signal?: AbortSignal,
): MaybeAsync<BlockRun[]> {
  return core.metadata.run(() => runsOf(core, group, false), signal);
}

/** All of the device that is in use, in bytes; neighbours are joined. */
export async function* usedRangesOf(
  core: ExtCore,
  signal?: AbortSignal,
): AsyncGenerator<ByteRange> {
  const { sb } = core;
  let pending: BlockRun = { first: 0, count: sb.firstDataBlock };
  const bytesOf = ({ first, count }: BlockRun): ByteRange => ({
    offsetBytes: first * sb.blockBytes,
    lengthBytes: count * sb.blockBytes,
  });
  for (let group = 0; group < sb.groupCount; group++) {
    const reading = core.metadata.run(() => runsOf(core, group, true), signal);
    const runs = isPromise(reading) ? await reading : reading;
    for (const run of runs) {
      const end = pending.first + pending.count;
      if (run.first <= end) {
        const count = Math.max(end, run.first + run.count) - pending.first;
        pending = { first: pending.first, count };
      } else {
        if (pending.count > 0) yield bytesOf(pending);
        pending = run;
      }
    }
  }
  if (pending.count > 0) yield bytesOf(pending);
}
