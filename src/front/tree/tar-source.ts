/**
 * A tar stream as entries: the formats v7, ustar, GNU and pax, with extended attributes as pax
 * records (`SCHILY.xattr.`), long names, hard links, devices, and sparse files of all forms.
 *
 *     header --> records of pax (g: for all, x: for the next), long names (L, K) --> the file
 *
 *  1. What a stream says is checked before it is used: sums, sizes, paths that lead out.
 *  2. An entry's content ends before the next header is read, also if nobody has asked for it.
 *  3. Compressed streams are refused by their first bytes, with a sentence.
 */
import type { FileType, Timespec } from "../../fs/vfs.ts";
import { FsError } from "../../lib/errno.ts";
import { MIB, roundUp } from "../../lib/units.ts";
import { ByteReader } from "./byte-reader.ts";
import { modeOfXattrs, xattrsOfRecords } from "./tar-attributes.ts";
import {
  decodeHeader,
  decodePax,
  type PaxRecords,
  TAR_BLOCK_BYTES,
  type TarHeader,
} from "./tar-header.ts";
import { oldGnuMap, paxMap, recordNumber, type SparseMap } from "./tar-sparse.ts";
import {
  NO_XATTRS,
  namesOfPath,
  type OnTreeError,
  pathOfNames,
  type Stretch,
  type TreeEntry,
  type TreeSource,
} from "./tree-entry.ts";

const TYPES: ReadonlyMap<string, FileType> = new Map([
  ["0", "file"],
  ["1", "file"],
  ["2", "symlink"],
  ["3", "character"],
  ["4", "block"],
  ["5", "directory"],
  ["6", "fifo"],
  ["7", "file"],
  ["D", "directory"],
  ["S", "file"],
]);
/** Records and long names of one file at most. */
const RECORD_BYTES_MAX = 16 * MIB;
const CHUNK_BYTES = MIB;
const SLASH = 0x2f;

/** What is asked of a stream. */
export interface TarOptions {
  readonly signal?: AbortSignal | undefined;
  /** Called for an entry that cannot be used; without it the error ends the source. */
  readonly onError?: OnTreeError | undefined;
}

/** What stands before a file beside its header. */
interface Extras {
  records: PaxRecords;
  sparsePieces: readonly number[];
  name: Uint8Array | undefined;
  linkName: Uint8Array | undefined;
}

const COMPRESSED: readonly (readonly [name: string, ...magic: number[]])[] = [
  ["gzip", 0x1f, 0x8b],
  ["xz", 0xfd, 0x37, 0x7a, 0x58, 0x5a],
  ["zstd", 0x28, 0xb5, 0x2f, 0xfd],
  ["bzip2", 0x42, 0x5a, 0x68],
];

/** Throws `EINVAL` for a stream that has to be decompressed. */
function checkPlain(block: Uint8Array): void {
  for (const [name, ...magic] of COMPRESSED) {
    if (!magic.every((byte, at) => block[at] === byte)) continue;
    const detail = `the tar stream is compressed: pass it through "${name} -dc" first`;
    throw new FsError("EINVAL", { syscall: "read", detail });
  }
}

/** Reads one stream. */
class TarReader {
  readonly #reader: ByteReader;
  readonly #options: TarOptions;
  #global: PaxRecords = new Map();
  /** Bytes of the current file that nobody has taken yet, with what fills its last block. */
  #leftBytes = 0;
  #isFirst = true;

  constructor(source: AsyncIterable<Uint8Array>, options: TarOptions) {
    this.#reader = new ByteReader(source);
    this.#options = options;
  }

  async *entries(): TreeSource {
    try {
      for (;;) {
        this.#options.signal?.throwIfAborted();
        const entry = await this.#next();
        if (entry === undefined) {
          await this.#drain();
          return;
        }
        if (entry !== "left out") yield entry;
      }
    } finally {
      await this.#reader.close();
    }
  }

  /** What fills a stream up behind its end is taken too: who writes it would fail else. */
  async #drain(): Promise<void> {
    for (let length = 1; length > 0; ) {
      this.#options.signal?.throwIfAborted();
      length = (await this.#reader.some(CHUNK_BYTES)).length;
    }
  }

  /** The next entry; undefined at the end. */
  async #next(): Promise<TreeEntry | "left out" | undefined> {
    const extras: Extras = {
      records: new Map(this.#global),
      sparsePieces: [],
      name: undefined,
      linkName: undefined,
    };
    for (;;) {
      const found = await this.#header();
      if (found === undefined) return undefined;
      const { header, block } = found;
      if (await this.#takeExtra(header, extras)) continue;
      const sizeBytes = recordNumber(extras.records, "size") ?? header.sizeBytes;
      const hasContent = !"123456".includes(header.type);
      const bodyBytes = hasContent || header.type === "1" ? sizeBytes : 0;
      if (!Number.isSafeInteger(bodyBytes + TAR_BLOCK_BYTES)) throw tooLarge();
      this.#leftBytes = roundUp(bodyBytes, TAR_BLOCK_BYTES);
      return this.#entry(header, block, extras, bodyBytes);
    }
  }

  async #header(): Promise<{ header: TarHeader; block: Uint8Array } | undefined> {
    await this.#reader.skip(this.#leftBytes);
    this.#leftBytes = 0;
    const block = await this.#reader.exactly(TAR_BLOCK_BYTES);
    if (block === undefined) return undefined;
    if (this.#isFirst) checkPlain(block);
    this.#isFirst = false;
    const header = decodeHeader(block);
    return header === undefined ? undefined : { header, block };
  }

  /** True if the header was about the next file only. */
  async #takeExtra(header: TarHeader, extras: Extras): Promise<boolean> {
    if (header.type === "V") {
      // The name of the whole archive.
      this.#leftBytes = roundUp(header.sizeBytes, TAR_BLOCK_BYTES);
      return true;
    }
    if (!"gxLK".includes(header.type)) return false;
    if (header.sizeBytes > RECORD_BYTES_MAX) throw tooLarge();
    const data = await this.#reader.needed(header.sizeBytes);
    this.#leftBytes = roundUp(header.sizeBytes, TAR_BLOCK_BYTES) - header.sizeBytes;
    if (header.type === "g") {
      for (const [key, value] of decodePax(data)) this.#global.set(key, value);
      extras.records = new Map([...this.#global, ...extras.records]);
    } else if (header.type === "x") {
      extras.sparsePieces = sparsePiecesOf(data);
      for (const [key, value] of decodePax(data)) extras.records.set(key, value);
    } else {
      const end = data.indexOf(0);
      const text = end === -1 ? data : data.subarray(0, end);
      if (header.type === "L") extras.name = text;
      else extras.linkName = text;
    }
    return true;
  }

  async #entry(
    header: TarHeader,
    block: Uint8Array,
    extras: Extras,
    bodyBytes: number,
  ): Promise<TreeEntry | "left out"> {
    const { records } = extras;
    const bytesOf = (key: string): Uint8Array | undefined => {
      const value = records.get(key);
      return value === undefined || value.length === 0 ? undefined : value;
    };
    const rawPath = bytesOf("GNU.sparse.name") ?? bytesOf("path") ?? extras.name ?? header.name;
    const linkName = bytesOf("linkpath") ?? extras.linkName ?? header.linkName;
    try {
      const type = typeOf(header, rawPath);
      const sparse = await this.#sparseMap(header, block, extras);
      const isLink = header.type === "1";
      const isFile = type === "file" && !isLink;
      const xattrs = isLink ? NO_XATTRS : this.#xattrs(records, rawPath);
      return {
        path: pathOfNames(namesOfPath(rawPath)),
        type,
        mode: modeOfXattrs(header.mode & 0o7777, xattrs),
        uid: recordNumber(records, "uid") ?? header.uid,
        gid: recordNumber(records, "gid") ?? header.gid,
        mtime: timeRecord(bytesOf("mtime")) ?? { sec: header.mtimeSec, nsec: 0 },
        atime: timeRecord(bytesOf("atime")),
        rdevMajor: header.devMajor,
        rdevMinor: header.devMinor,
        target: type === "symlink" ? linkName : undefined,
        linkTo: isLink ? pathOfNames(namesOfPath(linkName)) : undefined,
        xattrs,
        sizeBytes: isFile ? (sparse?.sizeBytes ?? bodyBytes) : 0,
        dataBytes: bodyBytes,
        content: isFile ? () => this.#content(bodyBytes, sparse) : undefined,
      };
    } catch (error) {
      if (this.#options.onError === undefined || !(error instanceof FsError)) throw error;
      this.#told(rawPath, error);
      return "left out";
    }
  }

  /** What cannot be used of them is told of, and the file has the others. */
  #xattrs(records: PaxRecords, rawPath: Uint8Array): ReadonlyMap<string, Uint8Array> {
    return xattrsOfRecords(records, (error) => {
      if (this.#options.onError === undefined) throw error;
      this.#told(rawPath, error);
    });
  }

  #told(rawPath: Uint8Array, { code, detail }: FsError): void {
    const path = new TextDecoder().decode(rawPath);
    this.#options.onError?.(rawPath, new FsError(code, { syscall: "read", path, detail }));
  }

  async #sparseMap(
    header: TarHeader,
    block: Uint8Array,
    extras: Extras,
  ): Promise<SparseMap | undefined> {
    if (header.type === "S") return oldGnuMap(block, this.#reader);
    const map = await paxMap(extras.records, extras.sparsePieces, this.#reader);
    this.#leftBytes -= map?.mapBytes ?? 0;
    return map;
  }

  /** The content of the current file, in the places where it belongs. */
  async *#content(bodyBytes: number, sparse: SparseMap | undefined): AsyncGenerator<Stretch> {
    const ranges = sparse?.ranges ?? [{ offsetBytes: 0, lengthBytes: bodyBytes }];
    for (const { offsetBytes, lengthBytes } of ranges) {
      for (let done = 0; done < lengthBytes; ) {
        this.#options.signal?.throwIfAborted();
        const most = Math.min(CHUNK_BYTES, lengthBytes - done);
        const bytes = await this.#reader.some(most);
        if (bytes.length === 0 || bytes.length > this.#leftBytes) {
          throw new FsError("EINVAL", { syscall: "read", detail: "the tar stream ends too early" });
        }
        this.#leftBytes -= bytes.length;
        yield { offsetBytes: offsetBytes + done, bytes };
        done += bytes.length;
      }
    }
  }
}

function tooLarge(): FsError {
  return new FsError("EINVAL", {
    syscall: "read",
    detail: "a header of the tar stream is too large",
  });
}

/** The numbers of the sparse form 0.0, whose keys come again and again. */
function sparsePiecesOf(data: Uint8Array): number[] {
  const text = new TextDecoder("latin1").decode(data);
  const found = text.matchAll(/^\d+ GNU\.sparse\.(?:offset|numbytes)=(\d+)$/gm);
  return Array.from(found, ([, digits]) => Number(digits));
}

function typeOf(header: TarHeader, path: Uint8Array): FileType {
  const type = TYPES.get(header.type);
  if (type === undefined) {
    throw new FsError("EINVAL", { detail: `its type "${header.type}" is not known` });
  }
  // The oldest format tells a directory by its name alone.
  return header.type === "0" && path.at(-1) === SLASH ? "directory" : type;
}

/** "1700000000.123456789", which may be negative. */
function timeRecord(value: Uint8Array | undefined): Timespec | undefined {
  if (value === undefined) return undefined;
  const match = /^(-?)(\d+)(?:\.(\d*))?$/.exec(new TextDecoder().decode(value));
  if (match === null) return undefined;
  const sec = Number(match[2]);
  const nsec = Number((match[3] ?? "").slice(0, 9).padEnd(9, "0"));
  if (match[1] === "") return { sec, nsec };
  return nsec === 0 ? { sec: -sec, nsec } : { sec: -sec - 1, nsec: 1_000_000_000 - nsec };
}

/**
 * The entries of a tar stream, in its order.
 *
 * @throws {FsError} `EINVAL` for what is no tar stream, or a compressed one
 */
export function tarEntries(
  source: AsyncIterable<Uint8Array>,
  options: TarOptions = {},
): TreeSource {
  return new TarReader(source, options).entries();
}
