/**
 * Changing the label and the UUID of a file system that nobody has mounted (`tune2fs -L`, `-U`).
 *
 * Checksums of metadata begin with the UUID. So that not all of them have to be made again, a new
 * UUID leaves the old seed in the superblock (`metadata_csum_seed`), as tune2fs does for a mounted
 * one; Linux knows that since 4.4. Copies of the superblock are changed too, after the primary one.
 *
 * Left out: file systems whose descriptors alone have checksums (`uninit_bg`), and external
 * journals, which name the UUID.
 */
import { type BlockDevice, readDevice } from "../../block/block-device.ts";
import { flushDevice, writeDevice } from "../../block/write-device.ts";
import { le32, putLe32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { sealSuperblock, volumeSeed } from "./checksum.ts";
import { INCOMPAT_CSUM_SEED, INCOMPAT_RECOVER, RO_COMPAT_GDT_CSUM } from "./features.ts";
import { findSuperblock } from "./find-superblock.ts";
import { hasSuperblockCopy } from "./group.ts";
import { SB, SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET_BYTES } from "./layout.ts";
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
 * @throws {FsError} `EINVAL` for a label or UUID that does not fit, `EBUSY` for an image whose
 *   journal has to be recovered first, `EOPNOTSUPP` for a UUID that other checksums need, `EIO`
 */
export async function tuneExt(bdev: BlockDevice, change: TuneChange): Promise<void> {
  const { sb } = await findSuperblock(bdev, "primary", undefined);
  check(sb, change);
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
  if (!sb.hasMetadataCsum && sb.hasRoCompat(RO_COMPAT_GDT_CSUM)) {
    const detail = "the checksums of the group descriptors hold the UUID (uninit_bg)";
    throw new FsError("EOPNOTSUPP", { ...where, detail });
  }
  if (le32(sb.raw, SB.s_journal_dev) !== 0) {
    throw new FsError("EOPNOTSUPP", { ...where, detail: "the external journal names the UUID" });
  }
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
