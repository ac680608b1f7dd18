/** From ranges of a file to ranges of a device: mpage with `GetBlock`, iomap with extents, buffers. */
export * from "./iomap/index.ts";
