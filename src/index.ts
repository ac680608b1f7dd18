/**
 * quirefs for Node: `openImage` and `cached`, and the types that they speak.
 *
 * The layers below have entries of their own: `quirefs/store`, `quirefs/block`, `quirefs/cache`,
 * `quirefs/mapping`, `quirefs/fs/ext`, `quirefs/lib`.
 */

export type { PathLike } from "./front/arguments.ts";
export type { CachedFile, CachedOptions } from "./front/cached.ts";
export type { Dir, Dirent } from "./front/dirent.ts";
export { EAGAIN, FileHandle } from "./front/file-handle.ts";
export {
  type CheckVolumeOptions,
  checkVolume,
  type MakeVolumeOptions,
  makeVolume,
} from "./front/make-volume.ts";
export { cached, type ImageSpec, type OpenImageOptions, openImage } from "./front/open-image.ts";
export { VolumeFs } from "./front/promises.ts";
export { BigIntStats, StatFs, Stats } from "./front/stats.ts";
export {
  openVolume,
  Volume,
  type VolumeInfo,
  type VolumeOptions,
  type VolumeStats,
} from "./front/volume.ts";
export type { Caller } from "./fs/permission.ts";
export {
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  type FileSystemWriter,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  XATTR_CREATE,
  XATTR_REPLACE,
} from "./fs/vfs-write.ts";
export { type ErrnoCode, FsError } from "./lib/errno.ts";
export { openFileStore } from "./store/file-store.ts";
export { MemoryStore } from "./store/memory-store.ts";
export type { Store, StoreCapabilities } from "./store/store.ts";
