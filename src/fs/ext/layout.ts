/**
 * Where the fields of ext2/3/4 lie: byte offsets under their documented names, and the numbers that
 * the format fixes. For every decoder of this folder; nothing here reads anything.
 *
 *     le32(superblockBytes, SB.s_blocks_count_lo)
 *
 * All integers are little-endian. The names are those of the kernel's "ext4 Data Structures and
 * Algorithms" (`Documentation/filesystems/ext4/`), so that a field is found in both by one
 * search. Left out: the journal, whose format is its own (`jbd2-format.ts`), and fields that
 * carry no truth.
 */

/** The primary superblock begins here, whatever the block size is. Copies begin at their block. */
export const SUPERBLOCK_OFFSET_BYTES = 1024;
export const SUPERBLOCK_BYTES = 1024;
export const SUPERBLOCK_MAGIC = 0xef53;

/** Superblock fields (`struct ext4_super_block`). */
export const SB = {
  s_inodes_count: 0x000,
  s_blocks_count_lo: 0x004,
  s_r_blocks_count_lo: 0x008,
  s_free_blocks_count_lo: 0x00c,
  s_free_inodes_count: 0x010,
  s_first_data_block: 0x014,
  s_log_block_size: 0x018,
  s_log_cluster_size: 0x01c,
  s_blocks_per_group: 0x020,
  s_clusters_per_group: 0x024,
  s_inodes_per_group: 0x028,
  s_mtime: 0x02c,
  s_wtime: 0x030,
  s_mnt_count: 0x034,
  s_max_mnt_count: 0x036,
  s_magic: 0x038,
  s_state: 0x03a,
  s_errors: 0x03c,
  s_minor_rev_level: 0x03e,
  s_lastcheck: 0x040,
  s_checkinterval: 0x044,
  s_creator_os: 0x048,
  s_rev_level: 0x04c,
  s_def_resuid: 0x050,
  s_def_resgid: 0x052,
  s_first_ino: 0x054,
  s_inode_size: 0x058,
  s_block_group_nr: 0x05a,
  s_feature_compat: 0x05c,
  s_feature_incompat: 0x060,
  s_feature_ro_compat: 0x064,
  s_uuid: 0x068,
  s_volume_name: 0x078,
  s_last_mounted: 0x088,
  s_reserved_gdt_blocks: 0x0ce,
  s_journal_uuid: 0x0d0,
  s_journal_inum: 0x0e0,
  s_journal_dev: 0x0e4,
  s_last_orphan: 0x0e8,
  s_hash_seed: 0x0ec,
  s_def_hash_version: 0x0fc,
  s_jnl_backup_type: 0x0fd,
  s_desc_size: 0x0fe,
  s_default_mount_opts: 0x100,
  s_first_meta_bg: 0x104,
  s_mkfs_time: 0x108,
  s_jnl_blocks: 0x10c,
  s_blocks_count_hi: 0x150,
  s_r_blocks_count_hi: 0x154,
  s_free_blocks_count_hi: 0x158,
  s_min_extra_isize: 0x15c,
  s_want_extra_isize: 0x15e,
  s_flags: 0x160,
  s_raid_stride: 0x164,
  s_mmp_update_interval: 0x166,
  s_mmp_block: 0x168,
  s_raid_stripe_width: 0x170,
  s_log_groups_per_flex: 0x174,
  s_checksum_type: 0x175,
  s_kbytes_written: 0x178,
  s_snapshot_list: 0x190,
  s_error_count: 0x194,
  s_first_error_time: 0x198,
  s_first_error_ino: 0x19c,
  s_first_error_block: 0x1a0,
  s_first_error_func: 0x1a8,
  s_first_error_line: 0x1c8,
  s_last_error_time: 0x1cc,
  s_last_error_ino: 0x1d0,
  s_last_error_line: 0x1d4,
  s_last_error_block: 0x1d8,
  s_last_error_func: 0x1e0,
  s_mount_opts: 0x200,
  s_usr_quota_inum: 0x240,
  s_grp_quota_inum: 0x244,
  s_overhead_clusters: 0x248,
  s_backup_bgs: 0x24c,
  s_encrypt_algos: 0x254,
  s_prj_quota_inum: 0x26c,
  s_checksum_seed: 0x270,
  s_wtime_hi: 0x274,
  s_mtime_hi: 0x275,
  s_mkfs_time_hi: 0x276,
  s_lastcheck_hi: 0x277,
  s_first_error_time_hi: 0x278,
  s_last_error_time_hi: 0x279,
  s_first_error_errcode: 0x27a,
  s_last_error_errcode: 0x27b,
  s_encoding: 0x27c,
  s_encoding_flags: 0x27e,
  s_orphan_file_inum: 0x280,
  s_def_resuid_hi: 0x284,
  s_def_resgid_hi: 0x286,
  s_checksum: 0x3fc,
} as const;

/**
 * Group descriptor fields (`struct ext4_group_desc`); those from 0x20 on exist with `64bit` only.
 */
export const GD = {
  bg_block_bitmap_lo: 0x00,
  bg_inode_bitmap_lo: 0x04,
  bg_inode_table_lo: 0x08,
  bg_free_blocks_count_lo: 0x0c,
  bg_free_inodes_count_lo: 0x0e,
  bg_used_dirs_count_lo: 0x10,
  bg_flags: 0x12,
  bg_block_bitmap_csum_lo: 0x18,
  bg_inode_bitmap_csum_lo: 0x1a,
  bg_itable_unused_lo: 0x1c,
  bg_checksum: 0x1e,
  bg_block_bitmap_hi: 0x20,
  bg_inode_bitmap_hi: 0x24,
  bg_inode_table_hi: 0x28,
  bg_free_blocks_count_hi: 0x2c,
  bg_free_inodes_count_hi: 0x2e,
  bg_used_dirs_count_hi: 0x30,
  bg_itable_unused_hi: 0x32,
  bg_block_bitmap_csum_hi: 0x38,
  bg_inode_bitmap_csum_hi: 0x3a,
} as const;
/** Bytes of a descriptor without `64bit`, and the least with it. */
export const DESCRIPTOR_BYTES = 32;
export const DESCRIPTOR_BYTES_64BIT = 64;

/** The inode bitmap is not initialised: every inode of the group is free. */
export const BG_INODE_UNINIT = 0x1;
/** The block bitmap is not initialised. */
export const BG_BLOCK_UNINIT = 0x2;
/** The inode table was zeroed. */
export const BG_INODE_ZEROED = 0x4;

/** Inode fields (`struct ext4_inode`); those from 0x80 on in inodes larger than 128 bytes. */
export const INODE = {
  i_mode: 0x00,
  i_uid: 0x02,
  i_size_lo: 0x04,
  i_atime: 0x08,
  i_ctime: 0x0c,
  i_mtime: 0x10,
  i_dtime: 0x14,
  i_gid: 0x18,
  i_links_count: 0x1a,
  i_blocks_lo: 0x1c,
  i_flags: 0x20,
  i_version: 0x24,
  i_block: 0x28,
  i_generation: 0x64,
  i_file_acl_lo: 0x68,
  i_size_high: 0x6c,
  i_blocks_high: 0x74,
  i_file_acl_high: 0x76,
  i_uid_high: 0x78,
  i_gid_high: 0x7a,
  i_checksum_lo: 0x7c,
  i_extra_isize: 0x80,
  i_checksum_hi: 0x82,
  i_ctime_extra: 0x84,
  i_mtime_extra: 0x88,
  i_atime_extra: 0x8c,
  i_crtime: 0x90,
  i_crtime_extra: 0x94,
  i_version_hi: 0x98,
  i_projid: 0x9c,
} as const;
/** Bytes of the inode of revision 0, and of the part that every inode has. */
export const GOOD_OLD_INODE_BYTES = 128;
/** First user inode of revision 0. */
export const GOOD_OLD_FIRST_INO = 11;
/** Bytes of `i_block`. */
export const I_BLOCK_BYTES = 60;

export const EXT_BAD_INO = 1;
export const EXT_ROOT_INO = 2;
export const EXT_JOURNAL_INO = 8;

export const S_IFMT = 0xf000;
export const S_IFIFO = 0x1000;
export const S_IFCHR = 0x2000;
export const S_IFDIR = 0x4000;
export const S_IFBLK = 0x6000;
export const S_IFREG = 0x8000;
export const S_IFLNK = 0xa000;
export const S_IFSOCK = 0xc000;

/** Inode flags (`EXT4_*_FL`), as stored. */
export const IMMUTABLE_FL = 0x0000_0010;
export const APPEND_FL = 0x0000_0020;
export const NOATIME_FL = 0x0000_0080;
export const ENCRYPT_FL = 0x0000_0800;
export const INDEX_FL = 0x0000_1000;
export const JOURNAL_DATA_FL = 0x0000_4000;
export const HUGE_FILE_FL = 0x0004_0000;
export const EXTENTS_FL = 0x0008_0000;
export const VERITY_FL = 0x0010_0000;
export const EA_INODE_FL = 0x0020_0000;
export const INLINE_DATA_FL = 0x1000_0000;
export const PROJINHERIT_FL = 0x2000_0000;
export const CASEFOLD_FL = 0x4000_0000;
/**
 * The flags that FS_IOC_GETFLAGS shows on Linux (`EXT4_FL_USER_VISIBLE`); e2fsprogs knows fewer.
 */
export const FLAGS_USER_VISIBLE = 0x725b_dfff;

/**
 * Extent header and entries (`struct ext4_extent_header`, `_idx`, `ext4_extent`), 12 bytes each.
 */
export const EH = {
  eh_magic: 0x0,
  eh_entries: 0x2,
  eh_max: 0x4,
  eh_depth: 0x6,
} as const;
export const EI = { ei_block: 0x0, ei_leaf_lo: 0x4, ei_leaf_hi: 0x8 } as const;
export const EE = { ee_block: 0x0, ee_len: 0x4, ee_start_hi: 0x6, ee_start_lo: 0x8 } as const;
export const EXTENT_MAGIC = 0xf30a;
export const EXTENT_ENTRY_BYTES = 12;
/** A length up to this is that of a written extent; above it, of an unwritten one, less this. */
export const EXTENT_WRITTEN_MAX = 0x8000;
/** Deepest tree that the format allows (`EXT4_MAX_EXTENT_DEPTH`). */
export const EXTENT_DEPTH_MAX = 5;

/** Pointers of `i_block` that lead to data, and the slots of the three indirect trees. */
export const DIRECT_BLOCKS = 12;
export const INDIRECT_LEVELS = 3;

/** Multi-mount protection block (`struct mmp_struct`). */
export const MMP = {
  mmp_magic: 0x000,
  mmp_seq: 0x004,
  mmp_time: 0x008,
  mmp_nodename: 0x010,
  mmp_bdevname: 0x050,
  mmp_check_interval: 0x070,
  mmp_checksum: 0x3fc,
} as const;
export const MMP_MAGIC = 0x004d_4d50;
export const MMP_SEQ_CLEAN = 0xff4d_4d50;
export const MMP_SEQ_FSCK = 0xe24d_4d50;
