/**
 * A name that somebody looks for in one directory: how it hashes there, and which entries it is.
 *
 *     ordinary directory     equal bytes; hash of the bytes
 *     ignoring case          equal bytes or equal folds; hash of the fold
 *     encrypted, no key      the ciphertext that the no-key name stands for; hash of the ciphertext
 *
 * After `struct ext4_filename`, `ext4_match` and `generic_ci_match` of Linux.
 */
import { equalBytes, le16 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { foldName } from "./casefold.ts";
import type { ExtContext } from "./context.ts";
import type { NoKeyName } from "./crypt-name.ts";
import { decodeNoKeyName, isNoKeyNameOf } from "./crypt-name.ts";
import type { DirWalk } from "./dir-block.ts";
import type { NameHash } from "./dir-hash.ts";
import { DX_HASH_UNSIGNED, hashName } from "./dir-hash.ts";
import type { ExtInode } from "./inode.ts";
import { SB } from "./layout.ts";

/** Longest name of an entry (`EXT4_NAME_LEN`). */
export const NAME_BYTES_MAX = 255;
const ENCODING_UTF8_12_1 = 1;
const ENCODING_STRICT = 1;
const FLAGS_UNSIGNED_HASH = 2;

/**
 * Hashes `name` by the stored version 0..2, as the superblock says `char` was (`s_hash_unsigned`).
 */
export function hashOnVolume(ctx: ExtContext, version: number, name: Uint8Array): NameHash {
  const isUnsigned = (ctx.sb.flags & FLAGS_UNSIGNED_HASH) !== 0;
  return hashName(isUnsigned ? version + DX_HASH_UNSIGNED : version, name, ctx.sb.hashSeed);
}

/** Hash by the stored version 0..2 of a name that stands in `dir`, which has no key. */
export function storedNameHash(
  ctx: ExtContext,
  dir: ExtInode,
  version: number,
  name: Uint8Array,
): NameHash {
  const hashed = dir.isCasefolded && !dir.isEncrypted ? (foldName(name) ?? name) : name;
  return hashOnVolume(ctx, version, hashed);
}

/** See the head of the file. Made by `wantedName`. */
export interface WantedName {
  /** The stored name, where one only is meant. */
  readonly stored: Uint8Array | undefined;
  /** Hash by the stored version 0..2 of an index. */
  hash(version: number): NameHash;
  /** True if the entry where `walk` stands is meant. */
  matches(walk: DirWalk): boolean;
}

/**
 * What `name` means in `dir`; undefined if no entry there can have it.
 *
 * @throws {FsError} `ENAMETOOLONG` beyond 255 bytes; `EINVAL` for a name that is not UTF-8 in a
 *   directory that ignores case, if the volume is strict; `EOPNOTSUPP` for an encoding other than
 *   UTF-8 12.1
 */
export function wantedName(
  ctx: ExtContext,
  dir: ExtInode,
  name: Uint8Array,
): WantedName | undefined {
  if (name.length > NAME_BYTES_MAX) throw new FsError("ENAMETOOLONG");
  if (name.length === 0) return undefined;
  if (dir.isEncrypted) return encryptedName(ctx, name);
  if (dir.isCasefolded) return foldedName(ctx, name);
  return {
    stored: name,
    hash: (version) => hashOnVolume(ctx, version, name),
    matches: (walk) => walk.hasName(name),
  };
}

/** Goes on with `walk` to the record that `wanted` means; false at the end. */
export function walkTo(walk: DirWalk, wanted: WantedName): boolean {
  if (wanted.stored !== undefined) return walk.find(wanted.stored);
  while (walk.next()) if (wanted.matches(walk)) return true;
  return false;
}

function foldedName(ctx: ExtContext, name: Uint8Array): WantedName {
  const encoding = le16(ctx.sb.raw, SB.s_encoding);
  if (encoding !== ENCODING_UTF8_12_1) {
    throw new FsError("EOPNOTSUPP", { detail: `superblock: s_encoding is ${encoding}` });
  }
  const isStrict = (le16(ctx.sb.raw, SB.s_encoding_flags) & ENCODING_STRICT) !== 0;
  const folded = foldName(name);
  if (folded === null && isStrict) {
    throw new FsError("EINVAL", { detail: "the name is not UTF-8, which this volume demands" });
  }
  return {
    stored: undefined,
    hash: (version) => hashOnVolume(ctx, version, folded ?? name),
    matches(walk) {
      if (walk.hasName(name)) return true;
      if (folded === null) return false;
      const theirs = foldName(walk.name);
      return theirs !== null && equalBytes(theirs, folded);
    },
  };
}

function encryptedName(ctx: ExtContext, name: Uint8Array): WantedName | undefined {
  const wanted: NoKeyName | undefined = decodeNoKeyName(name);
  if (wanted === undefined) return undefined;
  const isWhole = wanted.restDigest === undefined;
  return {
    stored: undefined,
    hash: (version) => (isWhole ? hashOnVolume(ctx, version, wanted.prefix) : wanted.hash),
    matches: (walk) => isNoKeyNameOf(wanted, walk.name),
  };
}
