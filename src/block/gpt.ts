/**
 * GPT: the partition table of UEFI, with checksums and a second copy at the end of the disk.
 *
 *     block 0   [MBR that guards it]
 *     block 1   [header: CRC of itself and of the entries]
 *     block 2   [entries, usually 128 of 128 bytes]
 *       ..      partitions
 *     last      [entries, second copy] [header, second copy]   each names the block of the other
 *
 * A block is the logical sector of the disk on which the table was written, 512 or 4096 bytes. An
 * image does not tell it, so the header is looked for at both places. A copy counts only if both
 * checksums are right; if the first does not, the second is used, with a warning that says why.
 *
 * After `block/partitions/efi.c` of Linux and UEFI 2.10, section 5.3. Left out: a GPT without the
 * MBR before it, which Linux ignores as well.
 */
import { equalBytes, isZero, le32 } from "../lib/bytes.ts";
import { MIB, PAGE_BYTES, SECTOR_BYTES } from "../lib/units.ts";
import { type BlockDevice, readDevice } from "./block-device.ts";
import { crc32 } from "./crc32.ts";
import { PartitionList, type PartitionTable } from "./partition.ts";
import { gptTypeName } from "./partition-types.ts";

const SIGNATURE: Uint8Array = new TextEncoder().encode("EFI PART");
const PRIMARY_BLOCK = 1;
const HEADER_BYTES_MIN = 92;
const HEADER_CRC_AT = 16;
const GUID_BYTES = 16;
const ENTRY_BYTES_MIN = 128;
const ENTRY_NAME_AT = 56;
const ENTRY_NAME_BYTES = 72;
const ATTRIBUTE_BIOS_BOOTABLE = 4;
/** Entries are read at once; a table larger than this is refused. 128 entries take 16 KiB. */
const ENTRIES_BYTES_MAX: number = 4 * MIB;

interface GptHeader {
  readonly blockBytes: number;
  readonly otherBlock: number;
  readonly firstUsableBlock: number;
  readonly lastUsableBlock: number;
  readonly diskGuid: string;
  readonly entriesBlock: number;
  readonly entryCount: number;
  readonly entryBytes: number;
  readonly entriesCrc: number;
}

/** A copy of the table whose checksums are right. */
interface GptCopy {
  readonly header: GptHeader;
  readonly entries: Uint8Array;
}

/** Why a copy cannot be used, in words; where its header named the other copy, that block. */
interface Damage {
  readonly reason: string;
  readonly otherBlock?: number;
}

/**
 * The GPT of `dev`, whose first sector says that there is one (`efi_partition`). With neither
 * copy whole it has no partitions, and the warnings say why.
 *
 * @throws {FsError} what a failed read throws
 */
export async function readGptTable(
  dev: BlockDevice,
  signal?: AbortSignal,
): Promise<PartitionTable> {
  const list = new PartitionList(dev);
  const sizes = new Set([dev.logicalBlockBytes, SECTOR_BYTES, PAGE_BYTES]);
  const damages = new Map<number, Damage>();
  for (const blockBytes of sizes) {
    const copy = await readCopy(dev, blockBytes, PRIMARY_BLOCK, signal);
    if ("header" in copy) return listCopy(dev, list, copy);
    damages.set(blockBytes, copy);
  }
  for (const blockBytes of sizes) {
    const damage = damages.get(blockBytes)!;
    const places = new Set([Math.floor(dev.sizeBytes / blockBytes) - 1, damage.otherBlock]);
    for (const block of places) {
      if (block === undefined || block <= PRIMARY_BLOCK) continue;
      const copy = await readCopy(dev, blockBytes, block, signal);
      if (!("header" in copy)) continue;
      list.warn(`the first GPT is damaged (${damage.reason}); its copy at block ${block} is used`);
      return listCopy(dev, list, copy);
    }
  }
  const { reason } = damages.get(dev.logicalBlockBytes)!;
  list.warn(`the MBR announces a GPT, but neither it (${reason}) nor its copy can be used`);
  return list.finish({ scheme: "gpt", logicalBlockBytes: dev.logicalBlockBytes });
}

/** Reads and checks the header at `block`, and its entries (`is_gpt_valid`). */
async function readCopy(
  dev: BlockDevice,
  blockBytes: number,
  block: number,
  signal: AbortSignal | undefined,
): Promise<GptCopy | Damage> {
  if ((block + 1) * blockBytes > dev.sizeBytes)
    return { reason: "it lies behind the device's end" };
  const bytes = await readDevice(dev, block * blockBytes, blockBytes, signal);
  if (!equalBytes(bytes.subarray(0, SIGNATURE.length), SIGNATURE)) {
    return { reason: "no signature" };
  }
  const otherBlock = lbaAt(bytes, 32);
  const headerReason = headerDamage(bytes, block);
  if (headerReason !== undefined) return { reason: headerReason, otherBlock };

  const header = decodeHeader(bytes);
  const entriesBytes = header.entryCount * header.entryBytes;
  const fromBytes = header.entriesBlock * blockBytes;
  if (header.entryBytes < ENTRY_BYTES_MIN || header.entryBytes % 8 !== 0) {
    return { reason: `entries of ${header.entryBytes} bytes`, otherBlock };
  }
  if (entriesBytes > ENTRIES_BYTES_MAX) {
    return { reason: `${header.entryCount} entries`, otherBlock };
  }
  if (fromBytes + entriesBytes > dev.sizeBytes) {
    return { reason: "entries behind the device's end", otherBlock };
  }
  const entries = await readDevice(dev, fromBytes, entriesBytes, signal);
  if (crc32(entries) !== header.entriesCrc) {
    return { reason: "wrong checksum of the entries", otherBlock };
  }
  return { header, entries };
}

/**
 * What is wrong with the header in `bytes`, one block long and read from `block`; or `undefined`.
 */
function headerDamage(bytes: Uint8Array, block: number): string | undefined {
  const headerBytes = le32(bytes, 12);
  if (headerBytes < HEADER_BYTES_MIN || headerBytes > bytes.length) {
    return `a header of ${headerBytes} bytes`;
  }
  const checked = bytes.slice(0, headerBytes);
  checked.fill(0, HEADER_CRC_AT, HEADER_CRC_AT + 4);
  if (crc32(checked) !== le32(bytes, HEADER_CRC_AT)) return "wrong checksum of the header";
  if (lbaAt(bytes, 24) !== block) return `a header for block ${lbaAt(bytes, 24)}`;
  return undefined;
}

function decodeHeader(bytes: Uint8Array): GptHeader {
  return {
    blockBytes: bytes.length,
    otherBlock: lbaAt(bytes, 32),
    firstUsableBlock: lbaAt(bytes, 40),
    lastUsableBlock: lbaAt(bytes, 48),
    diskGuid: guidAt(bytes, 56),
    entriesBlock: lbaAt(bytes, 72),
    entryCount: le32(bytes, 80),
    entryBytes: le32(bytes, 84),
    entriesCrc: le32(bytes, 88),
  };
}

function listCopy(
  dev: BlockDevice,
  list: PartitionList,
  { header, entries }: GptCopy,
): PartitionTable {
  const { blockBytes } = header;
  if ((header.lastUsableBlock + 1) * blockBytes > dev.sizeBytes) {
    list.warn("the device is smaller than its GPT says");
  }
  for (let index = 0; index < header.entryCount; index++) {
    const from = index * header.entryBytes;
    const entry = entries.subarray(from, from + header.entryBytes);
    if (isZero(entry, 0, GUID_BYTES)) continue;
    addEntry(list, index + 1, entry, header);
  }
  return list.finish({ scheme: "gpt", logicalBlockBytes: blockBytes, diskId: header.diskGuid });
}

function addEntry(list: PartitionList, number: number, entry: Uint8Array, header: GptHeader): void {
  const firstBlock = lbaAt(entry, 32);
  const lastBlock = lbaAt(entry, 40); // Inclusive.
  if (lastBlock < firstBlock) {
    list.warn(`partition ${number} ends before it begins and is left out`);
    return;
  }
  if (firstBlock < header.firstUsableBlock || lastBlock > header.lastUsableBlock) {
    list.warn(`partition ${number} lies outside of what the GPT gives to partitions`);
  }
  const typeId = guidAt(entry, 0);
  list.add({
    number,
    offsetBytes: firstBlock * header.blockBytes,
    lengthBytes: (lastBlock - firstBlock + 1) * header.blockBytes,
    typeName: gptTypeName(typeId),
    typeId,
    label: nameOf(entry),
    uuid: guidAt(entry, GUID_BYTES),
    isBootable: (entry[48]! & ATTRIBUTE_BIOS_BOOTABLE) !== 0,
  });
}

/** A block number of 64 bits. Rounded from 2^53 on, where it only has to be known as too large. */
function lbaAt(bytes: Uint8Array, at: number): number {
  return le32(bytes, at + 4) * 2 ** 32 + le32(bytes, at);
}

/** The name of an entry, up to its first NUL: UTF-16, in which a lone surrogate becomes U+FFFD. */
function nameOf(entry: Uint8Array): string | undefined {
  const units = entry.subarray(ENTRY_NAME_AT, ENTRY_NAME_AT + ENTRY_NAME_BYTES);
  const text = new TextDecoder("utf-16le", { ignoreBOM: true }).decode(units);
  const end = text.indexOf("\0");
  const name = end === -1 ? text : text.slice(0, end);
  return name === "" ? undefined : name;
}

/** Order in which the bytes of a GUID are written: its first three fields are little-endian. */
const GUID_ORDER: readonly number[] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
/** Number of digits before which a dash stands. */
const GUID_DASHES: ReadonlySet<number> = new Set([4, 6, 8, 10]);

/** The GUID at `at` in capitals, as firmware and `sfdisk` write it. */
function guidAt(bytes: Uint8Array, at: number): string {
  let text = "";
  for (const [place, offset] of GUID_ORDER.entries()) {
    if (GUID_DASHES.has(place)) text += "-";
    text += bytes[at + offset]!.toString(16).padStart(2, "0").toUpperCase();
  }
  return text;
}
