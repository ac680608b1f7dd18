/**
 * From ranges of a file to ranges of a device: mpage with `GetBlock`, iomap with extents,
 * buffers.
 */
export * from "./buffer.ts";
export * from "./buffer-cache.ts";
export { blockTruncatePage, blockWriteBegin, blockWriteEnd } from "./buffer-write.ts";
export type { BlockMap, DeviceBuffers, GetBlock } from "./get-block.ts";
export * from "./iomap/index.ts";
export { mpageReadahead, mpageReadFolio, mpageReadpages } from "./mpage.ts";
export { mpageWritepages } from "./mpage-write.ts";
export { blockReadFullFolio } from "./read-full-folio.ts";
export { blockWriteFullFolio } from "./write-full-folio.ts";
