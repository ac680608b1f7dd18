/**
 * A new file system in a store, and the check of one: what `mkfs` and `e2fsck -n` are, for callers
 * who have no command line.
 *
 *     await makeVolume(store, { type: "ext4", label: "data" });
 *     const report = await checkVolume(store);      // report.isClean, report.findings
 *
 * The store stays the caller's, who closes it.
 */
import { StoreBlockDevice } from "../block/block-device.ts";
import { type CheckOptions, type CheckReport, checkExt } from "../fs/ext/check/index.ts";
import { type MkfsOptions, type MkfsResult, makeExt } from "../fs/ext/mkfs/index.ts";
import { type Clock, realClock } from "../lib/clock.ts";
import { Random } from "../lib/random.ts";
import type { Store } from "../store/store.ts";
import { makeCache } from "./make-cache.ts";

/** The options of mke2fs; clock and random numbers are the platform's where they are left out. */
export interface MakeVolumeOptions extends Omit<MkfsOptions, "clock" | "random"> {
  readonly clock?: Clock | undefined;
  readonly random?: Random | undefined;
}

/** How a volume is to be checked. */
export interface CheckVolumeOptions extends Omit<CheckOptions, "clock"> {
  /** Bytes of the page cache, or text such as "64MiB". */
  readonly cache?: number | string | undefined;
  readonly clock?: Clock | undefined;
}

/**
 * Makes an ext2/3/4 file system in `store`, with the defaults of mke2fs 1.47. What was there is
 * lost. It is durable on return.
 *
 * @throws {FsError} `EINVAL`, `EOPNOTSUPP`, `EFBIG`, `ENOSPC` with the reason, before anything is
 *   written; `EROFS`, `EIO`
 */
export async function makeVolume(
  store: Store,
  options: MakeVolumeOptions = {},
): Promise<MkfsResult> {
  const clock = options.clock ?? realClock;
  const random = options.random ?? Random.ofPlatform();
  const device = new StoreBlockDevice(store, { clock });
  try {
    return await makeExt(device, { ...options, clock, random });
  } finally {
    await device.close();
  }
}

/**
 * Checks the file system in `store`, which is not written. Damage is in the report, and no error.
 *
 * @throws {FsError} `EIO` if the superblock cannot be read
 * @throws the reason of the signal
 */
export async function checkVolume(
  store: Store,
  options: CheckVolumeOptions = {},
): Promise<CheckReport> {
  const clock = options.clock ?? realClock;
  const { cache, ...rest } = options;
  const device = new StoreBlockDevice(store, { clock });
  try {
    return await checkExt(device, makeCache(cache, clock), { ...rest, clock });
  } finally {
    await device.close();
  }
}
