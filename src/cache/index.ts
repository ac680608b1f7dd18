/** The page cache: arena, folios, address spaces, reading through them, readahead and reclaim. */
export {
  AddressSpace,
  type AddressSpaceOperations,
  type MappingOptions,
} from "./address-space.ts";
export { Arena, type ArenaOptions } from "./arena.ts";
export { attachBlockState, FolioBlockState } from "./block-state.ts";
export {
  CacheFile,
  FileRaState,
  fileCheckAndAdvanceWbErr,
  openCacheFile,
} from "./cache-file.ts";
export type { DirtyLimitOptions } from "./dirty-limits.ts";
export {
  fadvise,
  POSIX_FADV_DONTNEED,
  POSIX_FADV_NOREUSE,
  POSIX_FADV_NORMAL,
  POSIX_FADV_RANDOM,
  POSIX_FADV_SEQUENTIAL,
  POSIX_FADV_WILLNEED,
} from "./fadvise.ts";
export {
  filemapGetFolio,
  filemapGrabFolio,
  filemapRead,
  filemapWriteFolio,
  readMappingFolio,
} from "./filemap.ts";
export {
  fileFdatawaitRange,
  filemapCheckErrors,
  filemapFdatawaitKeepErrors,
  filemapFdatawaitRange,
  filemapFdatawrite,
  filemapFdatawriteRange,
  filemapFlush,
  filemapFlushRange,
  filemapRangeHasWriteback,
  filemapWriteAndWaitRange,
  filemapWriteback,
  fileWriteAndWaitRange,
  genericBuffersFsync,
  type WriteBudget,
  writeOneFolio,
} from "./filemap-flush.ts";
export { FolioPipe, filemapSpliceRead } from "./filemap-splice.ts";
export { genericFileDirectWrite, genericPerformWrite } from "./filemap-write.ts";
export { BdiWriteback, type FlusherOptions } from "./flusher.ts";
export { Folio } from "./folio.ts";
export type { Inode } from "./inode.ts";
export {
  IOCB_APPEND,
  IOCB_DSYNC,
  IOCB_NOIO,
  IOCB_NOWAIT,
  IOCB_SYNC,
  type Kiocb,
} from "./kiocb.ts";
export { type CacheStats, PageCache, type PageCacheOptions } from "./page-cache.ts";
export {
  doWritepages,
  failWrite,
  filemapDirtyFolio,
  folioEndWriteback,
  genericWritepages,
  tagPagesForWriteback,
  WritebackIter,
  type WritepageFn,
  writeCachePages,
} from "./page-writeback.ts";
export {
  forcePageCacheRa,
  pageCacheAsyncRa,
  pageCacheSyncRa,
  ReadaheadControl,
} from "./readahead.ts";
export {
  type BackingDevice,
  I_DIRTY_DATASYNC,
  I_DIRTY_PAGES,
  I_DIRTY_SYNC,
  I_DIRTY_TIME,
  markInodeDirty,
  type Superblock,
  WbInode,
} from "./superblock.ts";
export { syncAll, syncFilesystem, syncfs, syncInodesSb, writebackInodesSb } from "./sync.ts";
export {
  SYNC_FILE_RANGE_WAIT_AFTER,
  SYNC_FILE_RANGE_WAIT_BEFORE,
  SYNC_FILE_RANGE_WRITE,
  syncFileRange,
} from "./sync-file-range.ts";
export { balanceDirtyPagesRatelimited } from "./throttle.ts";
export {
  invalidateInodePages2,
  invalidateInodePages2Range,
  invalidateMappingPages,
  pagecacheIsizeExtended,
  truncateInodePages,
  truncateInodePagesFinal,
  truncateInodePagesRange,
  truncatePagecache,
  truncateSetsize,
} from "./truncate.ts";
export { detachInode, syncInodeMetadata, writeInodeNow } from "./write-inode.ts";
export {
  AOP_WRITEPAGE_ACTIVATE,
  WB_SYNC_ALL,
  WB_SYNC_NONE,
  WritebackControl,
  type WritebackOptions,
} from "./writeback-control.ts";
