/**
 * iomap: file operations over runs of a file instead of single blocks. `iomap.ts` has the words,
 * `iter.ts` the loop, every other file one family of operations.
 */
export * from "./bio-read.ts";
export * from "./buffered-read.ts";
export * from "./buffered-write.ts";
export * from "./callbacks.ts";
export * from "./delalloc.ts";
export * from "./fiemap.ts";
export {
  type IoendHandler,
  IomapIoendQueue,
  iomapFinishFolioWrite,
  iomapFinishIoends,
} from "./finish-ioend.ts";
export { iomapFinishFolioRead } from "./finish-read.ts";
export * from "./ioend.ts";
export * from "./iomap.ts";
export * from "./iter.ts";
export * from "./page-mkwrite.ts";
export * from "./read-ops.ts";
export * from "./seek.ts";
export * from "./submit-ioend.ts";
export * from "./unshare.ts";
export * from "./write-ops.ts";
export * from "./writeback.ts";
export * from "./writeback-ops.ts";
export * from "./zero-range.ts";
