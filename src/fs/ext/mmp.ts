/**
 * Multi-mount protection: a block in which whoever has the file system mounted writes a new
 * number every few seconds. A reader changes nothing and may go on, but says who is there
 * (`fs/ext4/mmp.c`).
 */
import { le16, le32, le64 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { mmpChecksum } from "./checksum.ts";
import type { ExtContext } from "./context.ts";
import { MMP, MMP_MAGIC, MMP_SEQ_CLEAN, MMP_SEQ_FSCK } from "./layout.ts";

const NODE_NAME_BYTES = 64;
const DEVICE_NAME_BYTES = 32;

/** What the block says. */
export interface MmpState {
  /** Nobody; a check is running, or was broken off; mounted, or was not unmounted. */
  readonly state: "clean" | "fsck" | "in use";
  readonly sequence: number;
  /** Seconds since 1970 of the last update. */
  readonly timeSec: number;
  readonly nodeName: string;
  readonly deviceName: string;
  readonly checkIntervalSec: number;
}

/** The text of a field of `lengthBytes`, up to its zero. */
export function textOfMmp(block: Uint8Array, at: number, lengthBytes: number): string {
  const field = block.subarray(at, at + lengthBytes);
  const end = field.indexOf(0);
  return new TextDecoder().decode(end < 0 ? field : field.subarray(0, end));
}

/** Throws `EUCLEAN` for another magic number, `EBADMSG` for a wrong checksum. */
export function verifyMmp(block: Uint8Array, blocknr: number, ctx: ExtContext): void {
  if (le32(block, MMP.mmp_magic) !== MMP_MAGIC) {
    throw new FsError("EUCLEAN", { detail: `mmp block ${blocknr}: mmp_magic is wrong` });
  }
  if (!ctx.hasMetadataCsum) return;
  if (mmpChecksum(ctx.seed, block) !== le32(block, MMP.mmp_checksum)) {
    throw new FsError("EBADMSG", { detail: `mmp block ${blocknr}: mmp_checksum does not match` });
  }
}

/**
 * Decodes the protection block of a file system with feature mmp. Restartable; `EUCLEAN`,
 * `EBADMSG`.
 */
export function readMmp(ctx: ExtContext): MmpState {
  const { mmpBlock, firstDataBlock, blockCount } = ctx.sb;
  if (mmpBlock <= firstDataBlock || mmpBlock >= blockCount) {
    throw new FsError("EUCLEAN", { detail: `superblock: s_mmp_block is ${mmpBlock}, outside` });
  }
  const block = ctx.metadata.verified(mmpBlock, verifyMmp, ctx);
  const sequence = le32(block, MMP.mmp_seq);
  const special = sequence === MMP_SEQ_FSCK ? "fsck" : "in use";
  return {
    state: sequence === MMP_SEQ_CLEAN ? "clean" : special,
    sequence,
    timeSec: le64(block, MMP.mmp_time, `mmp block ${mmpBlock}: mmp_time`),
    nodeName: textOfMmp(block, MMP.mmp_nodename, NODE_NAME_BYTES),
    deviceName: textOfMmp(block, MMP.mmp_bdevname, DEVICE_NAME_BYTES),
    checkIntervalSec: le16(block, MMP.mmp_check_interval),
  };
}
