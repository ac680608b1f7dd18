/**
 * Changing the label and the UUID of a file system that nobody has mounted (`tune2fs -L`, `-U`).
 *
 * Checksums of metadata begin with the UUID. So that not all of them have to be made again, a new
 * UUID leaves the old seed in the superblock (`metadata_csum_seed`), as tune2fs does for a mounted
 * one; Linux knows that since 4.4. Copies of the superblock are changed too, after the primary one.
 *
 * Left out are UUIDs that more depends on: those of file systems whose descriptors alone have
 * checksums (`uninit_bg`), whose large attributes alone are hashed with them, whose encryption
 * needs that they stay (`stable_inodes`), and whose external journal names them.
 */
import { type BlockDevice, readDevice } from "../../block/block-device.ts";
import { flushDevice, writeDevice } from "../../block/write-device.ts";
import { le32, putLe32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { sealSuperblock, volumeSeed } from "./checksum.ts";
import {
  COMPAT_STABLE_INODES,
  INCOMPAT_CSUM_SEED,
  INCOMPAT_EA_INODE,
  INCOMPAT_MMP,
  INCOMPAT_RECOVER,
  RO_COMPAT_GDT_CSUM,
} from "./features.ts";
import { findSuperblock } from "./find-superblock.ts";
import { hasSuperblockCopy } from "./group.ts";
import { MMP, MMP_SEQ_CLEAN, SB, SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET_BYTES } from "./layout.ts";
import { hasSuperblockMagic, type Superblock } from "./superblock.ts";

const LABEL_BYTES = 16;
const UUID_BYTES = 16;

/** What is to be changed. */
export interface TuneChange {
  /** At most 16 bytes of UTF-8. */
  readonly label?: string | undefined;
  readonly uuid?: Uint8Array | undefined;
}

/**
 * Changes the superblocks on `bdev`, which is durable when this returns.
 *
 * @throws {FsError} `EINVAL` for a label or UUID that does not fit, `EBUSY` for an image that is in
 *   use, or whose journal has to be recovered first, `EOPNOTSUPP` for a UUID that must stay, `EIO`
 */
export async function tuneExt(bdev: BlockDevice, change: TuneChange): Promise<void> {
  const { sb } = await findSuperblock(bdev, "primary", undefined);
  check(sb, change);
  if (sb.hasIncompat(INCOMPAT_MMP)) await checkUnused(bdev, sb);
  await patchCopy(bdev, sb, SUPERBLOCK_OFFSET_BYTES, change);
  await flushDevice(bdev);
  for (let group = 1; group < sb.groupCount; group++) {
    if (!hasSuperblockCopy(sb, group)) continue;
    await patchCopy(bdev, sb, sb.firstBlockOf(group) * sb.blockBytes, change);
  }
  await flushDevice(bdev);
}

function check(sb: Superblock, { label, uuid }: TuneChange): void {
  const where = { syscall: "tune" };
  const labelBytes = new TextEncoder().encode(label ?? "").length;
  if (labelBytes > LABEL_BYTES) {
    const detail = `the label has ${labelBytes} bytes, at most ${LABEL_BYTES} fit`;
    throw new FsError("EINVAL", { ...where, detail });
  }
  if (uuid !== undefined && uuid.length !== UUID_BYTES) {
    throw new FsError("EINVAL", { ...where, detail: `a UUID has ${UUID_BYTES} bytes` });
  }
  if (sb.hasIncompat(INCOMPAT_RECOVER)) {
    throw new FsError("EBUSY", { ...where, detail: "the journal has to be recovered first" });
  }
  if (uuid === undefined) return;
  const why = whyUuidStays(sb);
  if (why !== undefined) throw new FsError("EOPNOTSUPP", { ...where, detail: why });
}

function whyUuidStays(sb: Superblock): string | undefined {
  if (sb.hasCompat(COMPAT_STABLE_INODES)) return "its UUID is never to change (stable_inodes)";
  if (!sb.hasMetadataCsum && sb.hasRoCompat(RO_COMPAT_GDT_CSUM)) {
    return "the checksums of the group descriptors hold the UUID (uninit_bg)";
  }
  const isSeeded = sb.hasMetadataCsum || sb.hasIncompat(INCOMPAT_CSUM_SEED);
  if (sb.hasIncompat(INCOMPAT_EA_INODE) && !isSeeded) {
    return "the hashes of large attributes hold the UUID (ea_inode)";
  }
  return le32(sb.raw, SB.s_journal_dev) === 0 ? undefined : "the external journal names the UUID";
}

/** Throws `EBUSY` if somebody has `sb` mounted, or did not unmount it, as far as its block says. */
async function checkUnused(bdev: BlockDevice, { mmpBlock, blockBytes }: Superblock): Promise<void> {
  const block = await readDevice(bdev, mmpBlock * blockBytes, blockBytes);
  if (le32(block, MMP.mmp_seq) === MMP_SEQ_CLEAN) return;
  const detail = "multi-mount protection: it is in use, or was not unmounted";
  throw new FsError("EBUSY", { syscall: "tune", detail });
}

/** Changes the copy at `offsetBytes`; what is no superblock there is left alone. */
async function patchCopy(
  bdev: BlockDevice,
  sb: Superblock,
  offsetBytes: number,
  { label, uuid }: TuneChange,
): Promise<void> {
  const raw = await readDevice(bdev, offsetBytes, SUPERBLOCK_BYTES);
  if (!hasSuperblockMagic(raw)) return;
  if (label !== undefined) {
    raw.fill(0, SB.s_volume_name, SB.s_volume_name + LABEL_BYTES);
    raw.set(new TextEncoder().encode(label), SB.s_volume_name);
  }
  if (uuid !== undefined) {
    if (sb.hasMetadataCsum && !sb.hasIncompat(INCOMPAT_CSUM_SEED)) {
      const old = sb.raw.subarray(SB.s_uuid, SB.s_uuid + UUID_BYTES);
      putLe32(raw, SB.s_checksum_seed, volumeSeed(old));
      const incompat = le32(raw, SB.s_feature_incompat) | INCOMPAT_CSUM_SEED;
      putLe32(raw, SB.s_feature_incompat, incompat >>> 0);
    }
    raw.set(uuid, SB.s_uuid);
  }
  if (sb.hasMetadataCsum) sealSuperblock(raw);
  await writeDevice(bdev, offsetBytes, raw);
}
