/**
 * Mounting ext2/3/4: from a device to a file system that can be read, and what the user must be
 * told.
 *
 *     superblock --> features --> needs recovery? --> no:  core on the device
 *                                                --> yes: log read, core on an overlay of it
 *                --> sums of the descriptors, multi-mount protection, orphans --> ExtFileSystem
 *
 * Unless it is mounted for writing (`mount-writable.ts`) nothing is ever written: a journal that
 * has to be replayed is replayed into memory.
 *
 * After `fs/ext4/super.c` (`__ext4_fill_super`).
 */
import { type BlockDevice, readDevice } from "../../block/block-device.ts";
import type { PageCache } from "../../cache/page-cache.ts";
import { putLe32 } from "../../lib/bytes.ts";
import type { Clock } from "../../lib/clock.ts";
import { FsError } from "../../lib/errno.ts";
import { Random } from "../../lib/random.ts";
import { ExtCore } from "./core.ts";
import type { DataMode } from "./data-mode.ts";
import { ExtFileSystem } from "./ext-file-system.ts";
import { ExtVolumeWriter } from "./ext-volume-writer.ts";
import { COMPAT_HAS_JOURNAL, INCOMPAT_MMP, INCOMPAT_RECOVER, unknownRoCompat } from "./features.ts";
import { type AtimePolicy, FileContent } from "./file-content.ts";
import { type FoundSuperblock, findSuperblock, type SuperblockChoice } from "./find-superblock.ts";
import { primarySuperblockBlock } from "./group.ts";
import { EXT_ROOT_INO, SB, SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET_BYTES } from "./layout.ts";
import { type MmpState, readMmp } from "./mmp.ts";
import { mountWritable } from "./mount-writable.ts";
import { type OrphanProgress, readOrphans } from "./orphan.ts";
import { type JournalInfo, replayIntoMemory } from "./recovery.ts";
import { type DoubtHandler, readSuperblock, Superblock } from "./superblock.ts";
import { superblockFromLog } from "./superblock-from-log.ts";
import { sumGroups } from "./usage.ts";
import { mayUseReserve } from "./write-support.ts";

export { ExtFileSystem } from "./ext-file-system.ts";
export { probeExt } from "./find-superblock.ts";

/** How an image is to be opened. */
export interface ExtMountOptions {
  readonly clock: Clock;
  /** Mount it for writing: the journal is recovered, orphans are deleted. */
  readonly writable?: boolean | undefined;
  /** Who writes: whether what is kept for root is his. Root if left out. */
  readonly caller?: { readonly uid: number; readonly gids: readonly number[] } | undefined;
  /** Where generations of inodes and the like come from; needed for writing. */
  readonly random?: Random | undefined;
  /** Write past the journal: for an image that nobody needs if writing is broken off. */
  readonly isUnlogged?: boolean | undefined;
  /** How data and the journal go together; as the superblock says, or "ordered". */
  readonly data?: DataMode | undefined;
  /** What becomes of file data that cannot be written: forgotten as in the kernel, or kept. */
  readonly onWriteError?: "drop" | "keep" | undefined;
  /** Which reads bring access times up to date; "relatime" by default. */
  readonly atime?: AtimePolicy | undefined;
  /** Read the image as it lies there, without its journal. */
  readonly noload?: boolean | undefined;
  /** "primary" if left out. Copies are old, so they are used only when they are asked for. */
  readonly superblock?: SuperblockChoice | undefined;
  /**
   * Go on past wrong checksums of superblock and descriptors, and past an early end of the
   * device.
   */
  readonly salvage?: boolean | undefined;
  /** Where an external journal lies. */
  readonly journalDevice?: BlockDevice | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Texts for the user, each once, in order, and not endlessly many. */
class Warnings {
  static readonly #LIMIT = 100;
  readonly texts: string[] = [];

  readonly add = (text: string): void => {
    if (this.texts.length < Warnings.#LIMIT && !this.texts.includes(text)) this.texts.push(text);
  };
}

/** A core that reads what is to be read, and what was found in its journal. */
interface Opened {
  readonly core: ExtCore;
  readonly journal: JournalInfo | undefined;
}

/**
 * A copy of the superblock is older than the flag of a journal that needs recovery: it gets the
 * flag, so that the journal itself is asked.
 */
function withRecoveryDue(sb: Superblock): Superblock {
  const raw = sb.raw.slice();
  putLe32(raw, SB.s_feature_incompat, sb.features.incompat | INCOMPAT_RECOVER);
  return new Superblock(raw);
}

/** Opens the core, through the overlay of its journal if there is something in that. */
async function openCore(
  bdev: BlockDevice,
  cache: PageCache,
  options: ExtMountOptions,
  found: FoundSuperblock,
  warn: (text: string) => void,
  onDoubt: DoubtHandler | undefined,
): Promise<Opened> {
  const isSalvage = options.salvage ?? false;
  const mayBeDirty = found.isBackup && found.sb.hasCompat(COMPAT_HAS_JOURNAL);
  const isAsked = mayBeDirty && options.noload !== true;
  const firstSb = isAsked ? withRecoveryDue(found.sb) : found.sb;
  const first = new ExtCore(firstSb, found.blocknr, bdev, cache, warn, isSalvage);
  try {
    const { device, fastCommits, journal } = await replayIntoMemory(first, bdev, options);
    if (device === bdev) return { core: first, journal };
    await first.close();
    const sb = found.isBackup
      ? found.sb
      : await recoveredSuperblock(device, onDoubt, options.signal);
    const core = new ExtCore(sb, found.blocknr, device, cache, warn, isSalvage, fastCommits);
    return { core, journal };
  } catch (thrown) {
    await first.close();
    throw thrown;
  }
}

/**
 * The superblock as the replayed journal leaves it, which may have other features and a new size.
 */
async function recoveredSuperblock(
  device: BlockDevice,
  onDoubt: DoubtHandler | undefined,
  signal?: AbortSignal,
): Promise<Superblock> {
  const bytes = await readDevice(device, SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_BYTES, signal);
  return readSuperblock(bytes, device.sizeBytes, onDoubt);
}

/** The superblock to mount with: that of `options`, or that of the log where it is torn. */
async function findMounted(
  bdev: BlockDevice,
  cache: PageCache,
  options: ExtMountOptions,
  onDoubt: DoubtHandler | undefined,
  warn: (text: string) => void,
): Promise<FoundSuperblock> {
  const { superblock = "primary", noload, signal } = options;
  try {
    return await findSuperblock(bdev, superblock, onDoubt, signal);
  } catch (thrown) {
    const isTorn = thrown instanceof FsError && thrown.code === "EBADMSG";
    if (!isTorn || superblock === "backup" || noload === true) throw thrown;
    const sb = await superblockFromLog(bdev, cache, options);
    if (sb === undefined) throw thrown;
    warn("the superblock is torn: the copy in the journal is used");
    return { sb, blocknr: primarySuperblockBlock(sb), isBackup: false };
  }
}

/**
 * The protection block, or undefined when there is none that can be read; says who is there, unless
 * that is we, as behind a writable mount.
 */
async function checkMmp(
  core: ExtCore,
  isOurs: boolean,
  signal?: AbortSignal,
): Promise<MmpState | undefined> {
  if (!core.sb.hasIncompat(INCOMPAT_MMP)) return undefined;
  try {
    const mmp = await core.metadata.run(() => readMmp(core), signal);
    if (mmp.state === "fsck") {
      core.warn(
        "multi-mount protection: a check of this file system is running, or was broken off",
      );
    } else if (mmp.state === "in use" && !isOurs) {
      const where = JSON.stringify(mmp.nodeName);
      core.warn(`multi-mount protection: in use by the machine ${where}, what is read may change`);
    }
    return mmp;
  } catch (thrown) {
    if (!(thrown instanceof FsError) || thrown.code === "EIO") throw thrown;
    core.warn(thrown.message);
    return undefined;
  }
}

/** Number of orphans; undefined when they cannot be read, which is said. */
async function countOrphans(core: ExtCore, signal?: AbortSignal): Promise<number | undefined> {
  const progress: OrphanProgress = { seen: new Set(), next: core.sb.lastOrphan };
  try {
    const orphans = await core.metadata.run(() => readOrphans(core, progress), signal);
    return orphans.length;
  } catch (thrown) {
    if (!(thrown instanceof FsError) || thrown.code === "EIO") throw thrown;
    core.warn(`inodes that were deleted while in use are not known: ${thrown.message}`);
    return undefined;
  }
}

/** The root has to be a directory, else nothing can be reached. */
async function checkRoot(core: ExtCore, signal?: AbortSignal): Promise<void> {
  const root = await core.metadata.run(() => core.inode(EXT_ROOT_INO), signal);
  if (root.type !== "directory" || root.linksCount === 0) {
    throw new FsError("EUCLEAN", { detail: "inode 2: the root is not a directory" });
  }
}

/**
 * Opens the ext2/3/4 file system on `bdev`, whose blocks and files are then cached in `cache`.
 *
 * @throws {FsError} `EINVAL` if there is none, `EOPNOTSUPP` for features that quire cannot read
 *   and for an external journal that was not given, `EUCLEAN`/`EBADMSG` for a damaged one, `EIO`
 */
export async function mountExt(
  bdev: BlockDevice,
  cache: PageCache,
  options: ExtMountOptions,
): Promise<ExtFileSystem> {
  const warnings = new Warnings();
  const note: DoubtHandler = (doubt) => warnings.add(doubt.message);
  const onDoubt = options.salvage === true ? note : undefined;
  const { signal } = options;
  const found = await findMounted(bdev, cache, options, onDoubt, warnings.add);
  if (found.isBackup) {
    warnings.add(
      `the copy of the superblock in block ${found.blocknr} is used, as it was asked for: ` +
        "free counts and times may be old",
    );
  }
  const unknown = unknownRoCompat(found.sb.features);
  if (unknown.length > 0) {
    warnings.add(`the image may only be read, it has unknown features: ${unknown.join(", ")}`);
  }
  if (options.writable === true) return openWritable(bdev, cache, options, found, warnings);
  const { core, journal } = await openCore(bdev, cache, options, found, warnings.add, onDoubt);
  try {
    await checkRoot(core, signal);
    const sums = await sumGroups(core, signal);
    const mmp = await checkMmp(core, false, signal);
    const orphanCount = await countOrphans(core, signal);
    const findings = { warnings: warnings.texts, sums, mmp, journal, orphanCount };
    return new ExtFileSystem(core, cache, findings);
  } catch (thrown) {
    await core.close();
    throw thrown;
  }
}

async function openWritable(
  bdev: BlockDevice,
  cache: PageCache,
  options: ExtMountOptions,
  found: FoundSuperblock,
  warnings: Warnings,
): Promise<ExtFileSystem> {
  const { clock, journalDevice, signal } = options;
  if (options.noload === true || options.salvage === true) {
    const detail = "what is read past its journal or past damage can only be read";
    throw new FsError("EINVAL", { detail });
  }
  const random = options.random ?? Random.ofPlatform();
  const { isUnlogged, data } = options;
  const write = { clock, random, journalDevice, signal, isUnlogged, data };
  const mount = await mountWritable(bdev, cache, found, write, warnings.add);
  try {
    const { core, journal } = mount;
    await checkRoot(core, signal);
    const { uid, gids } = options.caller ?? { uid: 0, gids: [] };
    mount.writer.isPrivileged = mayUseReserve(core.sb, uid, gids);
    const sums = await sumGroups(core, signal);
    const mmp = await checkMmp(core, true, signal);
    const findings = { warnings: warnings.texts, sums, mmp, journal, orphanCount: 0 };
    const { onWriteError = "drop", atime = "relatime" } = options;
    const content = new FileContent(mount.writer, cache, { onWriteError, atime });
    return new ExtFileSystem(core, cache, findings, new ExtVolumeWriter(mount, content));
  } catch (thrown) {
    await mount.close();
    throw thrown;
  }
}
