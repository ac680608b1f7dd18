/**
 * ext2/3/4 for callers that put their own stack together: mounting over a block device, probing.
 */
export type {
  DirectoryBatch,
  DirectoryEntry,
  FileExtent,
  FileSystem,
  FileSystemUsage,
  FileType,
  InodeAttributes,
  Timespec,
  VfsInode,
} from "../vfs.ts";
export { ExtFileSystem, type ExtMountOptions, mountExt, probeExt } from "./ext-fs.ts";
