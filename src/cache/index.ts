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
  IOCB_NOIO,
  IOCB_NOWAIT,
  type Kiocb,
  readMappingFolio,
} from "./filemap.ts";
export { Folio } from "./folio.ts";
export type { Inode } from "./inode.ts";
export { type CacheStats, PageCache, type PageCacheOptions } from "./page-cache.ts";
export {
  forcePageCacheRa,
  pageCacheAsyncRa,
  pageCacheSyncRa,
  ReadaheadControl,
} from "./readahead.ts";
export { invalidateMappingPages, truncateInodePagesFinal } from "./truncate.ts";
