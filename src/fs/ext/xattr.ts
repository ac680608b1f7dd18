/**
 * Extended attributes of an inode: those in the inode itself, then those in its block; and the two
 * things that the format keeps among them but users never see, inline data and encryption contexts.
 *
 *     index   1 user.   2, 3 ACLs   4 trusted.   6 security.   10 gnu.     shown, as root sees them
 *             5 Lustre   7 system. ("data": inline data)   8 richacl   9 encryption "c"     hidden
 *
 * A name that occurs in both places counts in the inode. After fs/ext4/xattr.c and inline.c of
 * Linux.
 */
import { equalBytes, le32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { MIB } from "../../lib/units.ts";
import { aclFromDisk, aclToUser } from "./acl.ts";
import type { ExtContext } from "./context.ts";
import { type EaProgress, readEaInode } from "./ea-inode.ts";
import { whyNotOfFile } from "./fixed-blocks.ts";
import type { ExtInode } from "./inode.ts";
import { GOOD_OLD_INODE_BYTES, I_BLOCK_BYTES } from "./layout.ts";
import {
  readXattrArea,
  verifyXattrBlock,
  XATTR_BLOCK_HEADER_BYTES,
  XATTR_INODE_HEADER_BYTES,
  XATTR_MAGIC,
  type XattrBounds,
  type XattrEntry,
} from "./xattr-area.ts";

export const XATTR_INDEX_USER = 1;
export const XATTR_INDEX_ACL_ACCESS = 2;
export const XATTR_INDEX_ACL_DEFAULT = 3;
const XATTR_INDEX_TRUSTED = 4;
const XATTR_INDEX_SECURITY = 6;
export const XATTR_INDEX_SYSTEM = 7;
const XATTR_INDEX_HURD = 10;

/** Prefixes of the names that users see. */
export const PREFIXES: ReadonlyMap<number, string> = new Map([
  [XATTR_INDEX_USER, "user."],
  [XATTR_INDEX_ACL_ACCESS, "system.posix_acl_access"],
  [XATTR_INDEX_ACL_DEFAULT, "system.posix_acl_default"],
  [XATTR_INDEX_TRUSTED, "trusted."],
  [XATTR_INDEX_SECURITY, "security."],
  [XATTR_INDEX_HURD, "gnu."],
]);
/**
 * A kernel's call takes 64 KiB, so no inode has as much as this; an image may name one value often.
 */
const TOTAL_BYTES_MAX = 32 * MIB;
/** The attribute that holds inline data behind `i_block`, of the index `system.`. */
export const INLINE_NAME: Uint8Array = Uint8Array.from("data", (letter) => letter.charCodeAt(0));
const ESCAPE_BASE = 0xdc00;

/**
 * Where attributes lie in an inode, in `raw`; undefined if it has no room for them (the header is
 * in front of it, and may not have been written).
 */
export function inodeXattrBounds(inode: ExtInode): XattrBounds | undefined {
  const entriesAt = GOOD_OLD_INODE_BYTES + inode.extraIsize + XATTR_INODE_HEADER_BYTES;
  const end = inode.raw.length;
  const hasRoom = inode.extraIsize > 0 && entriesAt + XATTR_INODE_HEADER_BYTES <= end;
  return hasRoom ? { entriesAt, base: entriesAt, end } : undefined;
}

/** The attributes in the inode, in stored order. Throws `EUCLEAN` for a damaged list. */
export function inodeEntries(ctx: ExtContext, inode: ExtInode): readonly XattrEntry[] {
  const bounds = inodeXattrBounds(inode);
  if (bounds === undefined) return [];
  if (le32(inode.raw, bounds.entriesAt - XATTR_INODE_HEADER_BYTES) !== XATTR_MAGIC) return [];
  return readXattrArea(inode.raw, bounds, ctx.sb, `inode ${inode.ino}: xattrs in the inode`);
}

/** The attributes in the block, in stored order. Throws `EUCLEAN`/`EBADMSG` for a damaged block. */
export function blockEntries(ctx: ExtContext, inode: ExtInode): readonly XattrEntry[] {
  const { fileAclBlock } = inode;
  if (fileAclBlock === 0) return [];
  const why = whyNotOfFile(ctx, inode.ino, fileAclBlock, 1);
  if (why !== undefined) {
    const detail = `inode ${inode.ino}: i_file_acl is block ${fileAclBlock}, ${why}`;
    throw new FsError("EUCLEAN", { detail });
  }
  const check = { ino: inode.ino, hasChecksum: ctx.hasMetadataCsum, seed: ctx.seed };
  const data = ctx.metadata.verified(fileAclBlock, verifyXattrBlock, check);
  const bounds = { entriesAt: XATTR_BLOCK_HEADER_BYTES, base: 0, end: data.length };
  const where = `inode ${inode.ino}: xattr block ${fileAclBlock}`;
  return readXattrArea(data, bounds, ctx.sb, where);
}

/** The value of `entry` of `inode`, a copy. */
function storedValueOf(
  ctx: ExtContext,
  inode: ExtInode,
  entry: XattrEntry,
  progress: EaProgress,
): Uint8Array {
  return entry.valueIno === 0 ? entry.value.slice() : readEaInode(ctx, inode, entry, progress);
}

/**
 * The value of the attribute with this index and stored name, as stored; undefined if there is
 * none. Throws as `readXattrs`.
 */
export function storedXattrOf(
  ctx: ExtContext,
  inode: ExtInode,
  index: number,
  name: Uint8Array,
): Uint8Array | undefined {
  const isMeant = (entry: XattrEntry): boolean =>
    entry.index === index && equalBytes(entry.name, name);
  const entry = inodeEntries(ctx, inode).find(isMeant) ?? blockEntries(ctx, inode).find(isMeant);
  return entry === undefined ? undefined : storedValueOf(ctx, inode, entry, new Map());
}

/**
 * All attributes of `inode` that root sees, by full name, with the values that `getxattr` gives:
 * those in the inode first. Access control lists are in the form of users (`acl.ts`). Bytes of a
 * name that are not UTF-8 become lone surrogates U+DC80..U+DCFF. A caller that runs this again for
 * each miss gives the same `progress` each time.
 *
 * @throws {FsError} `EUCLEAN`/`EBADMSG` for a damaged list, block, value or access control list;
 *   `E2BIG` if the values have more than 32 MiB together
 * @throws {BlockMiss} for a block that is not cached: let it pass
 */
export function readXattrs(
  ctx: ExtContext,
  inode: ExtInode,
  progress: EaProgress = new Map(),
): ReadonlyMap<string, Uint8Array> {
  const found = new Map<string, XattrEntry>();
  let totalBytes = 0;
  for (const entries of [inodeEntries(ctx, inode), blockEntries(ctx, inode)]) {
    for (const entry of entries) {
      const prefix = PREFIXES.get(entry.index);
      if (prefix === undefined) continue;
      const name = prefix + decodeEscaped(entry.name);
      if (found.has(name)) continue;
      found.set(name, entry);
      totalBytes += entry.valueBytes;
    }
  }
  if (totalBytes > TOTAL_BYTES_MAX) {
    const detail = `inode ${inode.ino}: its attributes have ${totalBytes} bytes`;
    throw new FsError("E2BIG", { detail });
  }
  const shown = new Map<string, Uint8Array>();
  for (const [name, entry] of found) {
    const value = shownValue(ctx, inode, entry, name, progress);
    if (value !== undefined) shown.set(name, value);
  }
  return shown;
}

/**
 * The value of `entry` as users get it; undefined for a list without entries, which counts as none.
 */
function shownValue(
  ctx: ExtContext,
  inode: ExtInode,
  entry: XattrEntry,
  name: string,
  progress: EaProgress,
): Uint8Array | undefined {
  const value = storedValueOf(ctx, inode, entry, progress);
  const isAcl = entry.index === XATTR_INDEX_ACL_ACCESS || entry.index === XATTR_INDEX_ACL_DEFAULT;
  if (!isAcl) return value;
  const acl = aclFromDisk(value, `inode ${inode.ino}: ${name}`);
  return acl.length === 0 ? undefined : aclToUser(acl);
}

/**
 * The part of an inline inode's data that lies behind the 60 bytes of `i_block`; a view, empty
 * where these suffice. Throws `EUCLEAN` if the inode has no attribute for it, which every inline
 * inode has.
 */
export function inlineTailOf(ctx: ExtContext, inode: ExtInode): Uint8Array {
  const entry = inodeEntries(ctx, inode).find(isInlineEntry);
  if (entry === undefined || entry.valueIno !== 0) {
    const detail = `inode ${inode.ino}: it is inline, but has no attribute system.data`;
    throw new FsError("EUCLEAN", { detail });
  }
  return entry.value;
}

/** True for the attribute `system.data`. */
export function isInlineEntry(entry: XattrEntry): boolean {
  return entry.index === XATTR_INDEX_SYSTEM && equalBytes(entry.name, INLINE_NAME);
}

/**
 * The content of an inline file or symlink, a copy: `i_size` bytes, or fewer where the file is
 * longer than what lies in the inode, as mke2fs makes files that are one hole. Then the rest is
 * zeros.
 *
 * @throws {FsError} `EUCLEAN` for a damaged attribute
 */
export function inlineDataOf(ctx: ExtContext, inode: ExtInode): Uint8Array {
  const tail = inlineTailOf(ctx, inode);
  const content = new Uint8Array(Math.min(inode.size, I_BLOCK_BYTES + tail.length));
  content.set(inode.iBlock.subarray(0, Math.min(content.length, I_BLOCK_BYTES)));
  if (content.length > I_BLOCK_BYTES) {
    content.set(tail.subarray(0, content.length - I_BLOCK_BYTES), I_BLOCK_BYTES);
  }
  return content;
}

const strictDecoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** `bytes` as text, each byte that belongs to no UTF-8 sequence as a lone low surrogate. */
function decodeEscaped(bytes: Uint8Array): string {
  const whole = tryDecode(bytes);
  if (whole !== undefined) return whole;
  let text = "";
  for (let at = 0; at < bytes.length; ) {
    const lead = bytes[at]!;
    const length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    const sequence = tryDecode(bytes.subarray(at, at + length));
    text += sequence ?? String.fromCharCode(ESCAPE_BASE + lead);
    at += sequence === undefined ? 1 : length;
  }
  return text;
}

function tryDecode(bytes: Uint8Array): string | undefined {
  try {
    return strictDecoder.decode(bytes);
  } catch {
    return undefined;
  }
}
