/** Checking ext2, ext3 and ext4 images. */
export { type CheckOptions, checkExt } from "./check.ts";
export type { CheckReport, Finding, Severity, Where } from "./report.ts";
