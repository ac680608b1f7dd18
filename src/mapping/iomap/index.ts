/**
 * iomap: file operations over runs of a file instead of single blocks. `iomap.ts` has the words,
 * `iter.ts` the loop, every other file one family of operations.
 */
export * from "./bio-read.ts";
export * from "./buffered-read.ts";
export * from "./callbacks.ts";
export * from "./fiemap.ts";
export { iomapFinishFolioRead } from "./finish-read.ts";
export * from "./iomap.ts";
export * from "./iter.ts";
export * from "./read-ops.ts";
export * from "./seek.ts";
