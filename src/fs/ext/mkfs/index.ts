/** Making ext2, ext3 and ext4 file systems. */
export type { ExtType } from "./choose-features.ts";
export type { MkfsOptions, MkfsUsage, OnErrors } from "./options.ts";
export { type MkfsResult, makeExt } from "./write.ts";
