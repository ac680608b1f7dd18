/**
 * From ranges of a file to ranges of a device: mpage with `GetBlock`, iomap with extents,
 * buffers.
 */
export * from "./buffer.ts";
export * from "./buffer-cache.ts";
export type { BlockMap, GetBlock } from "./get-block.ts";
export * from "./iomap/index.ts";
export { mpageReadahead, mpageReadFolio, mpageReadpages } from "./mpage.ts";
export { blockReadFullFolio } from "./read-full-folio.ts";
