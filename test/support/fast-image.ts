/**
 * Real file systems whose logs end in fast commits made by hand, and what a writable open makes of
 * them.
 *
 *     const image = await FastImage.make();                       // with a directory and two files
 *     const bytes = image.craft(new FastCommitBuilder(7).add(..).commit());
 *     await open(bytes, ({ fs }) => ..);                          // recovers, and closes
 *     await expectClean(bytes);
 */
import { expect } from "vitest";
import { StoreBlockDevice } from "../../src/block/block-device.ts";
import { PageCache } from "../../src/cache/page-cache.ts";
import { openImage } from "../../src/front/open-image.ts";
import type { Volume } from "../../src/front/volume.ts";
import { checkExt } from "../../src/fs/ext/check/index.ts";
import { superblockChecksum } from "../../src/fs/ext/checksum.ts";
import { SB } from "../../src/fs/ext/layout.ts";
import { type MkfsOptions, makeExt } from "../../src/fs/ext/mkfs/index.ts";
import { openJournal } from "../../src/fs/ext/recovery.ts";
import { le32, putLe32 } from "../../src/lib/bytes.ts";
import { realClock, VirtualClock } from "../../src/lib/clock.ts";
import { Random } from "../../src/lib/random.ts";
import { MIB } from "../../src/lib/units.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import type { Store } from "../../src/store/store.ts";
import { JournalBuilder, type LogOptions } from "./crafted-log.ts";
import { openImage as mountImage } from "./ext-images.ts";
import type { FastCommitBuilder } from "./fast-commit-builder.ts";

const SIZE_BYTES = 8 * MIB;
/** Blocks of the image; those from `FREE_FROM` on are free. */
export const BLOCK_BYTES = 1024;
export const FREE_FROM = 6000;
/** Blocks of the journal, and those of them that are for fast commits. */
export const JOURNAL_BLOCKS = 1040;
export const FAST_BLOCKS = 16;
const RECOVER = 4;

/** A new file system of 8 MiB in memory, with blocks of 1 KiB. */
export async function makeBytes(
  features: readonly string[],
  options: Partial<MkfsOptions> = {},
): Promise<Uint8Array> {
  const bytes = new Uint8Array(SIZE_BYTES);
  const clock = new VirtualClock();
  clock.spend(1_700_000_000_000);
  const device = new StoreBlockDevice(new MemoryStore(bytes, { canWrite: true }), { clock });
  await makeExt(device, {
    clock,
    random: new Random(1),
    blockBytes: BLOCK_BYTES,
    ...(options.type === "ext2" ? {} : { journalBytes: MIB }),
    features,
    isZeroed: true,
    ...options,
  });
  await device.drain();
  return bytes;
}

/** See the head of the file. */
export class FastImage {
  readonly #base: Uint8Array;
  /** Device block of each journal block. */
  readonly #places: readonly number[];
  /** Numbers of what is there before the fast commits. */
  readonly inos: { readonly d: number; readonly f1: number; readonly f2: number };

  private constructor(base: Uint8Array, places: readonly number[], inos: FastImage["inos"]) {
    this.#base = base;
    this.#places = places;
    this.inos = inos;
  }

  /** Directory `d` with the files `f1`, of 3000 bytes "1", and `f2`, of 300 bytes "2". */
  static async make(features: readonly string[] = []): Promise<FastImage> {
    const bytes = await makeBytes(["fast_commit", ...features]);
    const inos = await open(bytes, async ({ fs }) => {
      await fs.mkdir("/d");
      await fs.writeFile("/d/f1", "1".repeat(3000));
      await fs.writeFile("/d/f2", "2".repeat(300));
      const [d, f1, f2] = await Promise.all(["/d", "/d/f1", "/d/f2"].map((path) => fs.stat(path)));
      return { d: Number(d!.ino), f1: Number(f1!.ino), f2: Number(f2!.ino) };
    });
    return new FastImage(bytes, await placesOf(bytes), inos);
  }

  /** Device block of journal block `journalBlock`. */
  placeOf(journalBlock: number): number {
    return this.#places[journalBlock]!;
  }

  /**
   * The image with a log that has ended with transaction `tid`, and `area` behind it; over `base`
   * if that is given.
   */
  craft(
    area: FastCommitBuilder | undefined,
    tid = 6,
    base?: Uint8Array,
    options: LogOptions = {},
  ): Uint8Array {
    const log = new JournalBuilder({
      blockBytes: BLOCK_BYTES,
      blockCount: JOURNAL_BLOCKS,
      fastCommitBlocks: FAST_BLOCKS,
      sequence: tid,
      ...options,
    });
    log.C(tid, 1_700_000_001);
    area?.writeTo(log);
    const bytes = (base ?? this.#base).slice();
    for (const [block, content] of log.blocks) {
      bytes.set(content, this.placeOf(block) * BLOCK_BYTES);
    }
    const raw = bytes.subarray(1024, 2048);
    putLe32(raw, SB.s_feature_incompat, le32(raw, SB.s_feature_incompat) | RECOVER);
    putLe32(raw, SB.s_checksum, superblockChecksum(raw));
    return bytes;
  }
}

/** Device blocks of the blocks of the journal. */
export async function placesOf(bytes: Uint8Array): Promise<number[]> {
  await using mounted = await mountImage(new MemoryStore(bytes));
  const { core } = mounted.fs;
  const { found } = await openJournal(core, core.bdev, { clock: realClock });
  const places = Array.from(
    { length: found.map.blockCount },
    (_, block) => found.map.locate(block).physical,
  );
  return places;
}

/** Opens the image for writing, which recovers it, and closes it after `use`. */
export async function open<T>(
  image: Uint8Array | Store,
  use: (volume: Volume) => Promise<T>,
): Promise<T> {
  const volume = await openImage(image, {
    writable: true,
    atime: "noatime",
    random: new Random(1),
  });
  try {
    return await use(volume);
  } finally {
    await volume.close();
  }
}

/** Expects that nothing is wrong with the image, which was closed. */
export async function expectClean(bytes: Uint8Array): Promise<void> {
  const bdev = new StoreBlockDevice(new MemoryStore(bytes), { clock: realClock });
  const cache = new PageCache({ arenaBytes: 16 * MIB, clock: realClock });
  const report = await checkExt(bdev, cache, { clock: realClock });
  expect(report.findings.map(({ text }) => text)).toEqual([]);
  expect(report.isClean).toBe(true);
}
