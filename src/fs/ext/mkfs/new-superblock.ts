/**
 * The superblock of a new file system, encoded. All fields that are not named here are zero.
 */
import { putLe16, putLe32 } from "../../../lib/bytes.ts";
import { superblockChecksum, volumeSeed } from "../checksum.ts";
import {
  COMPAT_HAS_JOURNAL,
  COMPAT_ORPHAN_FILE,
  INCOMPAT_64BIT,
  INCOMPAT_CASEFOLD,
  INCOMPAT_CSUM_SEED,
  INCOMPAT_ENCRYPT,
  INCOMPAT_MMP,
  RO_COMPAT_METADATA_CSUM,
} from "../features.ts";
import {
  EXT_JOURNAL_INO,
  GOOD_OLD_FIRST_INO,
  GOOD_OLD_INODE_BYTES,
  SB,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_MAGIC,
} from "../layout.ts";
import type { MkfsPlan } from "./plan.ts";
import { MMP_INTERVAL_SEC, ORPHAN_FILE_INO } from "./small-files.ts";

const STATE_CLEAN = 1;
const ERRORS = { continue: 1, "remount-ro": 2, panic: 3 } as const;
const HASH_HALF_MD4 = 1;
const FLAG_SIGNED_HASH = 1;
const FLAG_UNSIGNED_HASH = 2;
const MOUNT_USER_XATTR_ACL = 0xc;
const NO_CHECK_MOUNTS = 0xffff;
const EXTRA_ISIZE = 32;
const CHECKSUM_CRC32C = 1;
const JNL_BACKUP_BLOCKS = 1;
const ENCODING_UTF8_12 = 1;
const AES_256_XTS = 1;
const AES_256_CTS = 4;
/** What `s_block_group_nr` says of groups that its 16 bits cannot name. */
const GROUP_NR_MAX = 0xffff;
const WORD = 0x1_0000_0000;

/** What is known only at the end. */
export interface Counts {
  readonly freeBlockCount: number;
  readonly freeInodeCount: number;
  readonly writtenKib: number;
}

function putCounts(raw: Uint8Array, plan: MkfsPlan, counts: Counts): void {
  const { p, geometry } = plan;
  const put64 = (lo: number, hi: number, value: number): void => {
    putLe32(raw, lo, value % WORD);
    if ((p.features.incompat & INCOMPAT_64BIT) !== 0) putLe32(raw, hi, Math.floor(value / WORD));
  };
  putLe32(raw, SB.s_inodes_count, geometry.inodesPerGroup * geometry.groupCount);
  put64(SB.s_blocks_count_lo, SB.s_blocks_count_hi, geometry.blockCount);
  put64(SB.s_r_blocks_count_lo, SB.s_r_blocks_count_hi, geometry.reservedBlockCount);
  put64(SB.s_free_blocks_count_lo, SB.s_free_blocks_count_hi, counts.freeBlockCount);
  putLe32(raw, SB.s_free_inodes_count, counts.freeInodeCount);
  putLe32(raw, SB.s_first_data_block, geometry.firstDataBlock);
  const logBlock = Math.log2(p.blockBytes / SUPERBLOCK_BYTES);
  putLe32(raw, SB.s_log_block_size, logBlock);
  putLe32(raw, SB.s_log_cluster_size, logBlock + Math.log2(p.clusterRatio));
  putLe32(raw, SB.s_blocks_per_group, geometry.blocksPerGroup);
  putLe32(raw, SB.s_clusters_per_group, geometry.blocksPerGroup / p.clusterRatio);
  putLe32(raw, SB.s_inodes_per_group, geometry.inodesPerGroup);
}

function putTime(raw: Uint8Array, lo: number, hi: number, sec: number): void {
  putLe32(raw, lo, sec % WORD);
  raw[hi] = Math.floor(sec / WORD);
}

function putJournal(raw: Uint8Array, plan: MkfsPlan): void {
  const journal = plan.inodes.find((inode) => inode.ino === EXT_JOURNAL_INO);
  if (journal === undefined) return;
  putLe32(raw, SB.s_journal_inum, EXT_JOURNAL_INO);
  raw[SB.s_jnl_backup_type] = JNL_BACKUP_BLOCKS;
  raw.set(journal.iBlock, SB.s_jnl_blocks);
  const sizesAt = SB.s_jnl_blocks + journal.iBlock.length;
  putLe32(raw, sizesAt, Math.floor(journal.sizeBytes / WORD));
  putLe32(raw, sizesAt + 4, journal.sizeBytes % WORD);
}

/** Fields that only revision 1 has. */
function putDynamic(raw: Uint8Array, plan: MkfsPlan): void {
  const { p, geometry, identity } = plan;
  const { compat, incompat, roCompat } = plan.features;
  putLe32(raw, SB.s_default_mount_opts, MOUNT_USER_XATTR_ACL);
  putLe32(raw, SB.s_feature_compat, compat);
  putLe32(raw, SB.s_feature_incompat, incompat);
  putLe32(raw, SB.s_feature_ro_compat, roCompat);
  if (p.inodeBytes > GOOD_OLD_INODE_BYTES) {
    putLe16(raw, SB.s_min_extra_isize, EXTRA_ISIZE);
    putLe16(raw, SB.s_want_extra_isize, EXTRA_ISIZE);
  }
  if ((incompat & INCOMPAT_64BIT) !== 0) putLe16(raw, SB.s_desc_size, geometry.descriptorBytes);
  raw[SB.s_log_groups_per_flex] = p.logGroupsPerFlex;
  putLe32(raw, SB.s_backup_bgs, geometry.backupGroups[0]);
  putLe32(raw, SB.s_backup_bgs + 4, geometry.backupGroups[1]);
  if ((roCompat & RO_COMPAT_METADATA_CSUM) !== 0) raw[SB.s_checksum_type] = CHECKSUM_CRC32C;
  if ((incompat & INCOMPAT_CSUM_SEED) !== 0) {
    putLe32(raw, SB.s_checksum_seed, volumeSeed(identity.uuid));
  }
  if ((incompat & INCOMPAT_ENCRYPT) !== 0) {
    raw.set([AES_256_XTS, AES_256_CTS], SB.s_encrypt_algos);
  }
  if ((incompat & INCOMPAT_CASEFOLD) !== 0) putLe16(raw, SB.s_encoding, ENCODING_UTF8_12);
  if ((incompat & INCOMPAT_MMP) !== 0) {
    putLe16(raw, SB.s_mmp_update_interval, MMP_INTERVAL_SEC);
    putLe32(raw, SB.s_mmp_block, plan.mmpBlock % WORD);
    putLe32(raw, SB.s_mmp_block + 4, Math.floor(plan.mmpBlock / WORD));
  }
  if ((compat & COMPAT_ORPHAN_FILE) !== 0) putLe32(raw, SB.s_orphan_file_inum, ORPHAN_FILE_INO);
  if ((compat & COMPAT_HAS_JOURNAL) !== 0) putJournal(raw, plan);
}

/** The superblock that is at its place in group 0; copies are made of it by `copyForGroup`. */
export function encodeSuperblock(plan: MkfsPlan, counts: Counts): Uint8Array {
  const { p, identity, geometry } = plan;
  const raw = new Uint8Array(SUPERBLOCK_BYTES);
  putCounts(raw, plan, counts);
  putTime(raw, SB.s_wtime, SB.s_wtime_hi, identity.nowSec);
  putTime(raw, SB.s_lastcheck, SB.s_lastcheck_hi, identity.nowSec);
  putTime(raw, SB.s_mkfs_time, SB.s_mkfs_time_hi, identity.nowSec);
  putLe16(raw, SB.s_max_mnt_count, NO_CHECK_MOUNTS);
  putLe16(raw, SB.s_magic, SUPERBLOCK_MAGIC);
  putLe16(raw, SB.s_state, STATE_CLEAN);
  putLe16(raw, SB.s_errors, ERRORS[identity.onErrors]);
  putLe32(raw, SB.s_rev_level, p.revision);
  putLe32(raw, SB.s_first_ino, GOOD_OLD_FIRST_INO);
  putLe16(raw, SB.s_inode_size, p.inodeBytes);
  raw.set(identity.uuid, SB.s_uuid);
  raw.set(identity.label, SB.s_volume_name);
  raw.set(identity.lastMountedOn, SB.s_last_mounted);
  putLe16(raw, SB.s_reserved_gdt_blocks, geometry.reservedGdtBlocks);
  raw.set(identity.hashSeed, SB.s_hash_seed);
  raw[SB.s_def_hash_version] = HASH_HALF_MD4;
  putLe32(raw, SB.s_flags, identity.isUnsignedHash ? FLAG_UNSIGNED_HASH : FLAG_SIGNED_HASH);
  putLe16(raw, SB.s_raid_stride, p.strideBlocks);
  putLe32(raw, SB.s_raid_stripe_width, p.stripeBlocks);
  putLe32(raw, SB.s_kbytes_written, counts.writtenKib);
  putLe32(raw, SB.s_overhead_clusters, plan.overheadClusters);
  if (p.revision > 0) putDynamic(raw, plan);
  seal(raw, plan);
  return raw;
}

function seal(raw: Uint8Array, plan: MkfsPlan): void {
  if ((plan.features.roCompat & RO_COMPAT_METADATA_CSUM) === 0) return;
  putLe32(raw, SB.s_checksum, superblockChecksum(raw));
}

/** The copy of `superblock` for `group`, which says where it is, and does not claim to be clean. */
export function copyForGroup(superblock: Uint8Array, group: number, plan: MkfsPlan): Uint8Array {
  const copy = superblock.slice();
  putLe16(copy, SB.s_block_group_nr, Math.min(group, GROUP_NR_MAX));
  putLe16(copy, SB.s_state, 0);
  seal(copy, plan);
  return copy;
}
