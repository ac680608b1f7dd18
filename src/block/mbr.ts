/**
 * MBR: the partition table of the PC, four entries in the first sector and a chain for more.
 *
 *     sector 0   [code ..][disk id at 440][4 entries of 16 bytes at 446][0x55 0xaa at 510]
 *     entry      [boot 1][chs 3][type 1][chs 3][first sector u32][sector count u32], little-endian
 *
 *     an entry of type 5, f or 85 holds logical partitions, each behind an EBR of the same form:
 *     container  [EBR][ logical 5 ..][EBR][ logical 6 ..]
 *                  |  entry 1: the logical one, counted from its EBR
 *                  +- entry 2: the next EBR, counted from the container's start
 *
 * The chain is a list in untrusted hands: it ends at a sector seen before, at the device's end, and
 * after `LOGICAL_MAX` links.
 *
 * After `block/partitions/msdos.c` of Linux. Left out: tables of BSD, Solaris and Minix inside an
 * entry.
 */
import { be16, le32 } from "../lib/bytes.ts";
import { SECTOR_BYTES } from "../lib/units.ts";
import { type BlockDevice, readDevice } from "./block-device.ts";
import { PartitionList, type PartitionTable } from "./partition.ts";
import { isExtendedType, MBR_TYPE_GPT, mbrTypeName } from "./partition-types.ts";

const DISK_ID_AT = 440;
const ENTRIES_AT = 446;
const ENTRY_BYTES = 16;
const ENTRY_COUNT = 4;
const SIGNATURE_AT = 510;
const SIGNATURE = 0x55aa;
const BOOT_ACTIVE = 0x80;
const FIRST_LOGICAL = 5;
/** Links of a chain that are followed at most; Linux has minors for 256 partitions of a disk. */
const LOGICAL_MAX = 256;

/** One of the four entries of a sector; its numbers are as they stand there. */
export interface MbrEntry {
  readonly type: number;
  readonly isBootable: boolean;
  readonly firstSector: number;
  readonly sectorCount: number;
}

/** A sector with entries: the first of a disk, or an EBR. */
export interface MbrSector {
  /** 0 if none was given. */
  readonly diskId: number;
  readonly entries: readonly MbrEntry[];
}

/**
 * The table in `sector`, 512 bytes at least, or `undefined` if it holds none. A boot sector with
 * only code where the table would be shows by its boot marks, which are 0 or 0x80 in every table.
 */
export function decodeMbr(sector: Uint8Array): MbrSector | undefined {
  if (sector.length < SECTOR_BYTES || be16(sector, SIGNATURE_AT) !== SIGNATURE) return undefined;
  const entries: MbrEntry[] = [];
  for (let index = 0; index < ENTRY_COUNT; index++) {
    const at = ENTRIES_AT + index * ENTRY_BYTES;
    const boot = sector[at]!;
    if (boot !== 0 && boot !== BOOT_ACTIVE) return undefined;
    entries.push({
      type: sector[at + 4]!,
      isBootable: boot === BOOT_ACTIVE,
      firstSector: le32(sector, at + 8),
      sectorCount: le32(sector, at + 12),
    });
  }
  return { diskId: le32(sector, DISK_ID_AT), entries };
}

/** True if the table only guards a GPT, or says that there is one (`is_pmbr_valid`). */
export function isProtective(mbr: MbrSector): boolean {
  return mbr.entries.some((entry) => entry.type === MBR_TYPE_GPT);
}

/** True if a table that guards a GPT has partitions of its own beside it. */
export function isHybrid(mbr: MbrSector): boolean {
  return isProtective(mbr) && mbr.entries.some((e) => isUsed(e) && e.type !== MBR_TYPE_GPT);
}

function isUsed(entry: MbrEntry): boolean {
  return entry.type !== 0 && entry.sectorCount !== 0;
}

/**
 * The partitions of `mbr`, the first sector of `dev`, and the logical ones of its containers, in
 * sectors of `dev.logicalBlockBytes` (`msdos_partition`). Damage becomes warnings.
 *
 * @throws {FsError} what a failed read of an EBR throws
 */
export async function readMbrTable(
  dev: BlockDevice,
  mbr: MbrSector,
  signal?: AbortSignal,
): Promise<PartitionTable> {
  const list = new PartitionList(dev);
  const walk: ChainWalk = { dev, list, nextNumber: FIRST_LOGICAL, seen: new Set() };
  for (const [index, entry] of mbr.entries.entries()) {
    if (!isUsed(entry)) continue;
    addEntry(walk, index + 1, entry, 0);
    if (isExtendedType(entry.type)) await readLogicals(walk, entry, signal);
  }
  const logicalBlockBytes = dev.logicalBlockBytes;
  const diskId = `0x${mbr.diskId.toString(16).padStart(8, "0")}`;
  return list.finish({ scheme: "mbr", logicalBlockBytes, diskId });
}

interface ChainWalk {
  readonly dev: BlockDevice;
  readonly list: PartitionList;
  nextNumber: number;
  /** Sectors of EBRs read so far, in all containers. */
  readonly seen: Set<number>;
}

function addEntry(walk: ChainWalk, number: number, entry: MbrEntry, fromSector: number): void {
  const blockBytes = walk.dev.logicalBlockBytes;
  walk.list.add({
    number,
    offsetBytes: (fromSector + entry.firstSector) * blockBytes,
    lengthBytes: entry.sectorCount * blockBytes,
    typeName: mbrTypeName(entry.type),
    typeId: `0x${entry.type.toString(16).padStart(2, "0")}`,
    isBootable: entry.isBootable,
    isContainer: isExtendedType(entry.type),
  });
}

/** Follows the chain of EBRs in `container` (`parse_extended`). */
async function readLogicals(
  walk: ChainWalk,
  container: MbrEntry,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { dev, list } = walk;
  let sector: number | undefined = container.firstSector;
  for (let links = 0; sector !== undefined; links++) {
    const where = `the chain of logical partitions at sector ${sector}`;
    if (walk.seen.has(sector)) return list.warn(`${where} leads back to itself`);
    if (links === LOGICAL_MAX) return list.warn(`${where} has more than ${LOGICAL_MAX} links`);
    if ((sector + 1) * dev.logicalBlockBytes > dev.sizeBytes) {
      return list.warn(`${where} leaves the device`);
    }
    walk.seen.add(sector);
    const bytes = await readDevice(dev, sector * dev.logicalBlockBytes, SECTOR_BYTES, signal);
    const ebr = decodeMbr(bytes);
    if (ebr === undefined) {
      // A container without partitions may have no EBR at all.
      if (links > 0) list.warn(`${where} has no valid sector there`);
      return;
    }
    addLogicals(walk, ebr, sector, container);
    const link = ebr.entries.find((entry) => isUsed(entry) && isExtendedType(entry.type));
    sector = link === undefined ? undefined : container.firstSector + link.firstSector;
  }
}

/**
 * Adds the data entries of one EBR: the first two as they are, the others if they stay in the
 * container.
 */
function addLogicals(walk: ChainWalk, ebr: MbrSector, sector: number, container: MbrEntry): void {
  const containerEnd = container.firstSector + container.sectorCount;
  for (const [index, entry] of ebr.entries.entries()) {
    if (!isUsed(entry) || isExtendedType(entry.type)) continue;
    const end = sector + entry.firstSector + entry.sectorCount;
    if (end > containerEnd) {
      if (index >= 2) continue;
      walk.list.warn(`partition ${walk.nextNumber} reaches past the partition that holds it`);
    }
    addEntry(walk, walk.nextNumber, entry, sector);
    walk.nextNumber++;
  }
}
