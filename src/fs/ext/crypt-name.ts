/**
 * Names and symlink targets of encrypted directories, as the kernel shows them without the key.
 *
 * The stored bytes are ciphertext. What users see is base64url, without padding, of
 *
 *     0        4        8                                157        189
 *     | hash   | minor  | ciphertext, at most 149 bytes  | SHA-256  |  `struct fscrypt_nokey_name`
 *
 * of which only the used part is encoded: the SHA-256 is that of the ciphertext behind byte 149,
 * where there is any. The hashes let the kernel find a name by it; they are 0 in a directory
 * without index. `.` and `..` are stored and shown plainly. So is everything reversible but the
 * tail of long names, and a shown name leads back to its entry.
 *
 * After fs/crypto/fname.c of Linux. Left out: decryption.
 */
import { equalBytes, le32, putLe32 } from "../../lib/bytes.ts";
import { SHA256_BYTES, sha256 } from "../../lib/sha256.ts";
import type { NameHash } from "./dir-hash.ts";

/** A ciphertext is never shorter (`FSCRYPT_FNAME_MIN_MSG_LEN`): a shorter one is damage. */
export const CIPHERTEXT_MIN_BYTES = 16;
const HASH_BYTES = 8;
const PREFIX_BYTES = 149;
const DIGEST_AT = HASH_BYTES + PREFIX_BYTES;
const NO_KEY_MAX_BYTES = DIGEST_AT + SHA256_BYTES;

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const DIGITS = Uint8Array.from(ALPHABET, (digit) => digit.charCodeAt(0));
const VALUE_OF_DIGIT = new Int8Array(256).fill(-1);
for (let value = 0; value < DIGITS.length; value++) VALUE_OF_DIGIT[DIGITS[value]!] = value;

/** What a no-key name says about the entry that it stands for. */
export interface NoKeyName {
  readonly hash: NameHash;
  /** The first 149 bytes of the ciphertext, or all if it is no longer. */
  readonly prefix: Uint8Array;
  /** SHA-256 of the rest, undefined if there is none. */
  readonly restDigest: Uint8Array | undefined;
}

/** The name that is shown for `ciphertext`, as bytes of ASCII (`fscrypt_fname_disk_to_usr`). */
export function encodeNoKeyName(hash: NameHash, ciphertext: Uint8Array): Uint8Array {
  const isLong = ciphertext.length > PREFIX_BYTES;
  const shown = new Uint8Array(isLong ? NO_KEY_MAX_BYTES : HASH_BYTES + ciphertext.length);
  putLe32(shown, 0, hash.major);
  putLe32(shown, 4, hash.minor);
  shown.set(ciphertext.subarray(0, PREFIX_BYTES), HASH_BYTES);
  if (isLong) shown.set(sha256(ciphertext.subarray(PREFIX_BYTES)), DIGEST_AT);
  return base64url(shown);
}

/** What `name` stands for, undefined if it is no name that `encodeNoKeyName` can have made. */
export function decodeNoKeyName(name: Uint8Array): NoKeyName | undefined {
  const bytes = fromBase64url(name);
  if (bytes === undefined || bytes.length <= HASH_BYTES) return undefined;
  const isLong = bytes.length === NO_KEY_MAX_BYTES;
  if (!isLong && bytes.length > DIGEST_AT) return undefined;
  return {
    hash: { major: le32(bytes, 0), minor: le32(bytes, 4) },
    prefix: bytes.subarray(HASH_BYTES, Math.min(bytes.length, DIGEST_AT)),
    restDigest: isLong ? bytes.subarray(DIGEST_AT) : undefined,
  };
}

/** True if `name` stands for `ciphertext` (`fscrypt_match_name`). */
export function isNoKeyNameOf(name: NoKeyName, ciphertext: Uint8Array): boolean {
  if (name.restDigest === undefined) return equalBytes(name.prefix, ciphertext);
  if (ciphertext.length <= PREFIX_BYTES) return false;
  if (!equalBytes(name.prefix, ciphertext.subarray(0, PREFIX_BYTES))) return false;
  return equalBytes(name.restDigest, sha256(ciphertext.subarray(PREFIX_BYTES)));
}

function base64url(bytes: Uint8Array): Uint8Array {
  const digits = new Uint8Array(Math.ceil((bytes.length * 8) / 6));
  let bits = 0;
  let bitCount = 0;
  let at = 0;
  for (const byte of bytes) {
    bits = ((bits << 8) | byte) & 0xffff;
    bitCount += 8;
    while (bitCount >= 6) {
      bitCount -= 6;
      digits[at++] = DIGITS[(bits >>> bitCount) & 0x3f]!;
    }
  }
  if (bitCount > 0) digits[at] = DIGITS[(bits << (6 - bitCount)) & 0x3f]!;
  return digits;
}

/** The bytes behind `digits`, undefined for other characters or for bits that no byte takes. */
function fromBase64url(digits: Uint8Array): Uint8Array | undefined {
  const bytes = new Uint8Array(Math.floor((digits.length * 6) / 8));
  let bits = 0;
  let bitCount = 0;
  let at = 0;
  for (const digit of digits) {
    const value = VALUE_OF_DIGIT[digit]!;
    if (value < 0) return undefined;
    bits = ((bits << 6) | value) & 0xffff;
    bitCount += 6;
    if (bitCount < 8) continue;
    bitCount -= 8;
    bytes[at++] = bits >>> bitCount;
  }
  const isExact = bitCount < 6 && (bits & ((1 << bitCount) - 1)) === 0;
  return isExact ? bytes : undefined;
}
