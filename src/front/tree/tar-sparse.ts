/**
 * Where the data of a sparse file of a tar stream belongs, in all forms that GNU tar writes.
 *
 *     type "S"     four pairs in the header, 21 in each block that follows it   --format=gnu
 *     pax 0.0      a record for each number: GNU.sparse.offset, .numbytes
 *     pax 0.1      one record: GNU.sparse.map, numbers with commas
 *     pax 1.0      numbers with newlines, in blocks before the data              --format=posix
 */
import { FsError } from "../../lib/errno.ts";
import type { ByteReader } from "./byte-reader.ts";
import { type PaxRecords, TAR_BLOCK_BYTES, tarNumber } from "./tar-header.ts";
import type { DataRange } from "./tree-entry.ts";

/** What a sparse file is: its size, and where its data belongs, in order. */
export interface SparseMap {
  readonly sizeBytes: number;
  readonly ranges: readonly DataRange[];
  /** Bytes of the file's part of the stream that the map itself takes. */
  readonly mapBytes: number;
}

const PAIR_BYTES = 24;
const NUMBER_BYTES = 12;
const HEADER_PAIRS_AT = 386;
const HEADER_PAIRS = 4;
const HEADER_MORE_AT = 482;
const REAL_SIZE_AT = 483;
const BLOCK_PAIRS = 21;
const BLOCK_MORE_AT = 504;
const RANGES_MAX = 4_000_000;
const DIGITS_MAX = 20;
const NEWLINE = 0x0a;

function wrong(detail: string): FsError {
  return new FsError("EINVAL", { syscall: "read", detail: `no sound tar stream: ${detail}` });
}

/** Throws `EINVAL` unless the ranges ascend and end in the file. */
function checked(sizeBytes: number, ranges: readonly DataRange[], mapBytes: number): SparseMap {
  let end = 0;
  for (const { offsetBytes, lengthBytes } of ranges) {
    const next = offsetBytes + lengthBytes;
    if (!Number.isSafeInteger(next) || offsetBytes < end || next > sizeBytes) {
      throw wrong("the map of a sparse file is not in order");
    }
    end = next;
  }
  return { sizeBytes, ranges, mapBytes };
}

/** The map of a file of type "S"; the blocks that go on with it are taken from `reader`. */
export async function oldGnuMap(header: Uint8Array, reader: ByteReader): Promise<SparseMap> {
  const ranges: DataRange[] = [];
  const take = (block: Uint8Array, from: number, pairs: number): void => {
    for (let pair = 0; pair < pairs; pair++) {
      const at = from + pair * PAIR_BYTES;
      if (block[at] === 0) return;
      ranges.push({
        offsetBytes: tarNumber(block.subarray(at, at + NUMBER_BYTES)),
        lengthBytes: tarNumber(block.subarray(at + NUMBER_BYTES, at + PAIR_BYTES)),
      });
    }
  };
  take(header, HEADER_PAIRS_AT, HEADER_PAIRS);
  let hasMore = header[HEADER_MORE_AT] !== 0;
  while (hasMore) {
    const block = await reader.needed(TAR_BLOCK_BYTES);
    take(block, 0, BLOCK_PAIRS);
    hasMore = block[BLOCK_MORE_AT] !== 0;
    if (ranges.length > RANGES_MAX) throw wrong("a sparse file has too many pieces");
  }
  const size = tarNumber(header.subarray(REAL_SIZE_AT, REAL_SIZE_AT + NUMBER_BYTES));
  return checked(size, ranges, 0);
}

/** A number that a record holds; undefined without it. */
export function recordNumber(records: PaxRecords, key: string): number | undefined {
  const value = records.get(key);
  if (value === undefined) return undefined;
  const text = new TextDecoder().decode(value);
  const number = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(number)) return number;
  throw wrong(`the record ${key} is no number`);
}

function pairsOf(numbers: readonly number[]): DataRange[] {
  const ranges: DataRange[] = [];
  for (let at = 0; at + 1 < numbers.length; at += 2) {
    ranges.push({ offsetBytes: numbers[at]!, lengthBytes: numbers[at + 1]! });
  }
  return ranges;
}

/**
 * The map that records of pax tell of, undefined if the file is not sparse. `pieces` are the
 * numbers of the form 0.0, in order.
 */
export async function paxMap(
  records: PaxRecords,
  pieces: readonly number[],
  reader: ByteReader,
): Promise<SparseMap | undefined> {
  const size =
    recordNumber(records, "GNU.sparse.realsize") ?? recordNumber(records, "GNU.sparse.size");
  if (size === undefined) return undefined;
  if (recordNumber(records, "GNU.sparse.major") === 1) return mapInData(size, reader);
  const map = records.get("GNU.sparse.map");
  if (map === undefined) return checked(size, pairsOf(pieces), 0);
  const numbers = new TextDecoder().decode(map).split(",").map(Number);
  return checked(size, pairsOf(numbers), 0);
}

async function mapInData(sizeBytes: number, reader: ByteReader): Promise<SparseMap> {
  const numbers: number[] = [];
  let mapBytes = 0;
  let text = "";
  let wanted = 1;
  while (numbers.length < wanted) {
    const block = await reader.needed(TAR_BLOCK_BYTES);
    mapBytes += TAR_BLOCK_BYTES;
    for (const byte of block) {
      if (numbers.length >= wanted) break;
      if (byte !== NEWLINE) text += String.fromCharCode(byte);
      else {
        if (!/^\d{1,20}$/.test(text)) throw wrong("the map of a sparse file holds no numbers");
        numbers.push(Number(text));
        text = "";
        if (numbers.length === 1) wanted = 1 + 2 * numbers[0]!;
        if (wanted > RANGES_MAX) throw wrong("a sparse file has too many pieces");
      }
      if (text.length > DIGITS_MAX) throw wrong("the map of a sparse file holds no numbers");
    }
  }
  return checked(sizeBytes, pairsOf(numbers.slice(1)), mapBytes);
}
