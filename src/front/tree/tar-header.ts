/**
 * One block of 512 bytes that stands before each file of a tar stream, and the records that say
 * what does not fit there (pax).
 *
 *     0 name  100 mode  108 uid  116 gid  124 size  136 mtime  148 sum  156 type  157 link target
 *     257 magic and version  265 user  297 group  329 major  337 minor  345 prefix  | GNU's own
 *
 * Numbers are octal digits, or with the top bit of the first byte set binary, big-endian, negative
 * ones too (GNU). Records of pax are `LENGTH KEY=VALUE\n`; their values are bytes here, since that
 * of an extended attribute is no text.
 *
 * After `tar(5)` of libarchive, the manual of GNU tar and IEEE 1003.1 (pax).
 */
import { isZero } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { SECTOR_BYTES } from "../../lib/units.ts";

/** Size of a block of a tar stream. */
export const TAR_BLOCK_BYTES: number = SECTOR_BYTES;

/** The fields of a header, as they stand there. */
export interface TarHeader {
  readonly name: Uint8Array;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly sizeBytes: number;
  readonly mtimeSec: number;
  /** One letter: "0" a file, "5" a directory, "x" records of pax .. */
  readonly type: string;
  readonly linkName: Uint8Array;
  readonly devMajor: number;
  readonly devMinor: number;
}

const FIELD = {
  name: [0, 100],
  mode: [100, 8],
  uid: [108, 8],
  gid: [116, 8],
  size: [124, 12],
  mtime: [136, 12],
  sum: [148, 8],
  type: [156, 1],
  linkName: [157, 100],
  magic: [257, 8],
  devMajor: [329, 8],
  devMinor: [337, 8],
  prefix: [345, 155],
} as const;

type Field = readonly [at: number, length: number];

const SPACE = 0x20;
const SLASH = 0x2f;
const EQUALS = 0x3d;
const NEWLINE = 0x0a;
const ZERO = 0x30;
const SEVEN = 0x37;
const NINE = 0x39;
const BINARY_MARK = 0x80;
const NEGATIVE_MARK = 0xff;

const latin1 = new TextDecoder("latin1");
const encoder = new TextEncoder();
const USTAR_MAGIC = encoder.encode("ustar\u000000");

function damaged(detail: string): FsError {
  return new FsError("EINVAL", { syscall: "read", detail: `no sound tar stream: ${detail}` });
}

/** A field up to its first NUL. */
function textField(block: Uint8Array, [at, length]: Field): Uint8Array {
  const field = block.subarray(at, at + length);
  const end = field.indexOf(0);
  return (end === -1 ? field : field.subarray(0, end)).slice();
}

/** A number of a header: of octal digits, or binary. */
export function tarNumber(field: Uint8Array): number {
  const first = field[0]!;
  if ((first & BINARY_MARK) !== 0) return binaryNumber(field, first === NEGATIVE_MARK);
  let value = 0;
  let hasBegun = false;
  for (const byte of field) {
    const isDigit = byte >= ZERO && byte <= SEVEN;
    if (!isDigit && (hasBegun || byte === 0)) break;
    if (!isDigit && byte !== SPACE) throw damaged("a number in a header is none");
    if (!isDigit) continue;
    hasBegun = true;
    value = value * 8 + (byte - ZERO);
  }
  return value;
}

function binaryNumber(field: Uint8Array, isNegative: boolean): number {
  let value = 0;
  for (const [index, byte] of field.entries()) {
    const bits = index === 0 ? byte & ~BINARY_MARK : byte;
    value = value * 256 + (isNegative ? (index === 0 ? 0 : 255 - byte) : bits);
    if (value > Number.MAX_SAFE_INTEGER) throw damaged("a number in a header is too large");
  }
  return isNegative ? -value - 1 : value;
}

function sumOf(block: Uint8Array): number {
  const [at, length] = FIELD.sum;
  let sum = length * SPACE;
  for (const [index, byte] of block.entries()) {
    if (index < at || index >= at + length) sum += byte;
  }
  return sum;
}

/**
 * Decodes a header; undefined for a block of zeros, which ends a stream.
 *
 * @throws {FsError} `EINVAL` for a wrong sum, and for numbers that are none
 */
export function decodeHeader(block: Uint8Array): TarHeader | undefined {
  if (isZero(block)) return undefined;
  const number = ([at, length]: Field): number => tarNumber(block.subarray(at, at + length));
  if (number(FIELD.sum) !== sumOf(block)) throw damaged("the sum of a header is wrong");
  const magic = latin1.decode(block.subarray(257, 265));
  // GNU uses the bytes of the prefix for fields of its own.
  const prefix = magic.startsWith("ustar\0") ? textField(block, FIELD.prefix) : new Uint8Array(0);
  const name = textField(block, FIELD.name);
  const hasDevice = magic.startsWith("ustar");
  const type = block[FIELD.type[0]]!;
  return {
    name: prefix.length === 0 ? name : joined(prefix, name),
    mode: number(FIELD.mode),
    uid: number(FIELD.uid),
    gid: number(FIELD.gid),
    sizeBytes: number(FIELD.size),
    mtimeSec: number(FIELD.mtime),
    type: type === 0 ? "0" : String.fromCharCode(type),
    linkName: textField(block, FIELD.linkName),
    devMajor: hasDevice ? number(FIELD.devMajor) : 0,
    devMinor: hasDevice ? number(FIELD.devMinor) : 0,
  };
}

function joined(prefix: Uint8Array, name: Uint8Array): Uint8Array {
  const path = new Uint8Array(prefix.length + 1 + name.length);
  path.set(prefix);
  path[prefix.length] = SLASH;
  path.set(name, prefix.length + 1);
  return path;
}

/** Largest number of `digits` octal digits. */
export function octalMax(digits: number): number {
  return 8 ** digits - 1;
}

/**
 * Encodes a header. What does not fit a field is cut or made the largest number: records of pax
 * before it say it all.
 */
export function encodeHeader(header: TarHeader): Uint8Array {
  const block = new Uint8Array(TAR_BLOCK_BYTES);
  const text = ([at, length]: Field, value: Uint8Array): void => {
    block.set(value.subarray(0, length), at);
  };
  const number = ([at, length]: Field, value: number): void => {
    const most = octalMax(length - 1);
    const bounded = Math.min(Math.max(value, 0), most);
    text([at, length - 1], encoder.encode(bounded.toString(8).padStart(length - 1, "0")));
  };
  text(FIELD.name, header.name);
  number(FIELD.mode, header.mode);
  number(FIELD.uid, header.uid);
  number(FIELD.gid, header.gid);
  number(FIELD.size, header.sizeBytes);
  number(FIELD.mtime, header.mtimeSec);
  text(FIELD.type, encoder.encode(header.type));
  text(FIELD.linkName, header.linkName);
  text(FIELD.magic, USTAR_MAGIC);
  number(FIELD.devMajor, header.devMajor);
  number(FIELD.devMinor, header.devMinor);
  // Six digits, a NUL and a blank, as everybody writes it.
  text(FIELD.sum, encoder.encode(`${sumOf(block).toString(8).padStart(6, "0")}\0 `));
  return block;
}

/** Records of pax by their keys; values are bytes. */
export type PaxRecords = Map<string, Uint8Array>;

/** Decodes the records of a header of type "x" or "g"; an empty value takes a key away. */
export function decodePax(data: Uint8Array): PaxRecords {
  const records: PaxRecords = new Map();
  for (let at = 0; at < data.length; ) {
    let length = 0;
    let digits = at;
    for (; data[digits]! >= ZERO && data[digits]! <= NINE; digits++) {
      length = length * 10 + (data[digits]! - ZERO);
    }
    const end = at + length;
    const isSound =
      digits > at && data[digits] === SPACE && end <= data.length && data[end - 1] === NEWLINE;
    const equals = data.indexOf(EQUALS, digits);
    if (!isSound || equals === -1 || equals >= end) throw damaged("a record of pax is none");
    const key = new TextDecoder().decode(data.subarray(digits + 1, equals));
    records.set(key, data.slice(equals + 1, end - 1));
    at = end;
  }
  return records;
}

/** Encodes records of pax. */
export function encodePax(records: ReadonlyMap<string, Uint8Array>): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const [key, value] of records) {
    const body = encoder.encode(` ${key}=`);
    const rest = body.length + value.length + 1;
    let length = rest + String(rest).length;
    if (rest + String(length).length !== length) length = rest + String(length).length;
    const record = new Uint8Array(length);
    record.set(encoder.encode(String(length)));
    record.set(body, length - rest);
    record.set(value, length - rest + body.length);
    record[length - 1] = NEWLINE;
    parts.push(record);
  }
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
