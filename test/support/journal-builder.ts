/**
 * Replays logs made by hand: into memory, as a read-only open does, and home, as a writable one.
 */
import type { BlockDevice } from "../../src/block/block-device.ts";
import { readDevice, StoreBlockDevice } from "../../src/block/block-device.ts";
import { type Replay, replayIntoMemory } from "../../src/fs/ext/recovery.ts";
import { realClock } from "../../src/lib/clock.ts";
import { CountingStore } from "../../src/store/counting-store.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import {
  type CraftOptions,
  copyBlock,
  craftContext,
  craftImage,
  homeBlock,
  type JournalBuilder,
  runsOf,
} from "./crafted-log.ts";
import { checkRecovery, checkRefusal } from "./recover-crafted.ts";

export {
  type CopySpec,
  type CraftOptions,
  copyBlock,
  FLAG_DELETED,
  FLAG_LAST,
  FLAG_SAME_UUID,
  HOME_BLOCKS,
  homeBlock,
  JournalBuilder,
  type LogOptions,
} from "./crafted-log.ts";

/** A file system whose crafted journal was replayed. */
export interface Crafted {
  readonly replay: Replay;
  readonly warnings: readonly string[];
  readonly device: BlockDevice;
  /** The device under the overlay. */
  readonly base: StoreBlockDevice;
  readonly store: CountingStore;
  /** The whole image, as it is now. */
  readonly bytes: Uint8Array;
  /** And before the replay. */
  readonly before: Uint8Array;
  read(blocknr: number): Promise<Uint8Array>;
}

/**
 * Replays `log` into memory, in a file system that has little else; and lets a writable open
 * recover copies of the image, which must come to the same, however often it is broken off.
 * Rejects as `replayIntoMemory` does, and in any case if a byte of the image was written.
 */
export async function replayCrafted(
  log: JournalBuilder,
  options: CraftOptions = {},
): Promise<Crafted> {
  const { blockBytes } = log;
  const bytes = craftImage(log, options, runsOf(log, options));
  const before = bytes.slice();
  const store = new CountingStore(new MemoryStore(bytes));
  const base = new StoreBlockDevice(store, { clock: realClock });
  const warnings: string[] = [];
  const ctx = craftContext(bytes, log, options, (text) => warnings.push(text));
  const checkUnchanged = (): void => {
    const isSame = Buffer.compare(bytes, before) === 0;
    if (store.writes + store.flushes + store.discards + store.zeroWrites > 0 || !isSame) {
      throw new Error("the image was written");
    }
  };
  const replaying = replayIntoMemory(ctx, base, { clock: realClock, ...options });
  const replay = await replaying.finally(checkUnchanged).catch(async (thrown: unknown) => {
    await checkRefusal(before, log, options, thrown);
    throw thrown;
  });
  await checkRecovery(before, log, options, replay);
  const read = (blocknr: number): Promise<Uint8Array> =>
    readDevice(replay.device, blocknr * blockBytes, blockBytes);
  return { replay, warnings, device: replay.device, base, store, bytes, before, read };
}

/** Checks that each home block reads as its copy in the given transaction, or as at home. */
export async function expectBlocks(
  crafted: Crafted,
  blocks: Readonly<Record<number, number | "home">>,
  blockBytes = 4096,
): Promise<void> {
  for (const [key, from] of Object.entries(blocks)) {
    const blocknr = Number(key);
    const wanted =
      from === "home" ? homeBlock(blocknr, blockBytes) : copyBlock(from, blocknr, blockBytes);
    const found = await crafted.read(blocknr);
    if (Buffer.compare(found, wanted) === 0) continue;
    throw new Error(`block ${blocknr} is not ${from === "home" ? from : `that of ${from}`}`);
  }
}
