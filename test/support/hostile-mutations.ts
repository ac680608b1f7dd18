/**
 * Random damage that knows the structures: boundary values in fields, swapped and circular block
 * pointers, moved records; afterwards the checksums are put right, half of the time.
 */

import { commitBlockChecksum } from "../../src/fs/ext/jbd2-checksum.ts";
import { JSB } from "../../src/fs/ext/jbd2-superblock.ts";
import { EE, EH, GD, INODE, SB } from "../../src/fs/ext/layout.ts";
import { be32, le16, le32, putBe32, putLe16, putLe32 } from "../../src/lib/bytes.ts";
import { crc32c } from "../../src/lib/crc32c.ts";
import type { Random } from "../../src/lib/random.ts";
import type { JournalImage } from "./hostile-images.ts";
import type { ImagePatch, Place, PlaceKind } from "./hostile-patch.ts";

const KINDS: readonly PlaceKind[] = [
  "superblock",
  "descriptors",
  "inode",
  "inode",
  "extents",
  "pointers",
  "directory",
  "index",
  "xattrs",
];
const BOUNDARIES = [0, 1, 2, 3, 11, 12, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0x8001, 0xfffc];
const WIDE = [0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];
const ENTRY_BYTES = 12;

/**
 * A value that is likely to hurt: a boundary, a neighbour of what is there, another block, an
 * inode.
 */
function hurtfulValue(random: Random, patch: ImagePatch, now: number): number {
  const { blockCount, inodeCount, blockBytes } = patch.sb;
  switch (random.below(6)) {
    case 0:
      return random.pick(BOUNDARIES);
    case 1:
      return random.pick(WIDE);
    case 2:
      return (now + random.pick([1, -1, 4, -4, blockBytes, -blockBytes]) + 2 ** 32) % 2 ** 32;
    case 3:
      return patch.blockOf(random.pick(patch.places));
    case 4:
      return random.pick([...patch.inos.values(), inodeCount, inodeCount + 1, 1, 7, 8]);
    default:
      return random.pick([blockCount, blockCount - 1, blockCount + 1, random.uint32()]);
  }
}

/** Offsets of the fields in a structure of this kind. */
function fieldsOf(kind: PlaceKind, view: Uint8Array, random: Random): readonly number[] {
  const repeated = (from: number, step: number, offsets: readonly number[]): number[] => {
    const at = from + step * random.below(Math.max(1, Math.floor((view.length - from) / step)));
    return offsets.map((offset) => at + offset);
  };
  switch (kind) {
    case "superblock":
      return Object.values(SB);
    case "descriptors":
      return Object.values(GD);
    case "inode":
      return [
        ...Object.values(INODE),
        ...repeated(INODE.i_block, 4, [0]),
        ...repeated(128, 4, [0]),
      ];
    case "extents":
      return [...Object.values(EH), ...repeated(ENTRY_BYTES, ENTRY_BYTES, Object.values(EE))];
    case "directory":
      return recordFields(view, random);
    case "index":
      return [0x18, 0x1c, 0x1d, 0x1e, 0x1f, 0x20, 0x22, ...repeated(0x20, 8, [0, 4])];
    case "xattrs":
      return [0, 4, 8, 12, ...repeated(0x20, 4, [0, 1, 2])];
    default:
      return repeated(0, 4, [0]);
  }
}

/** The fields of one record of a directory block, and some bytes of its name. */
function recordFields(view: Uint8Array, random: Random): readonly number[] {
  const starts: number[] = [];
  for (let at = 0; at + ENTRY_BYTES <= view.length; at += le16(view, at + 4)) {
    starts.push(at);
    if (le16(view, at + 4) < ENTRY_BYTES) break;
  }
  const at = random.pick(starts);
  return [0, 4, 6, 7, 8, 9].map((offset) => at + offset);
}

function putValue(view: Uint8Array, at: number, widthBytes: number, value: number): void {
  if (widthBytes === 1) view[at] = value;
  else if (widthBytes === 2) putLe16(view, at, value % 0x1_0000);
  else putLe32(view, at, value);
}

function mutateField(patch: ImagePatch, place: Place, random: Random): void {
  const view = patch.view(place);
  const at = random.pick(fieldsOf(place.kind, view, random));
  const widthBytes = random.pick([1, 2, 4]);
  if (at + 4 > view.length) return;
  putValue(view, at, widthBytes, hurtfulValue(random, patch, le32(view, at)));
}

/** Puts one structure where another of its kind, or of any, is. */
function copyOver(patch: ImagePatch, random: Random): void {
  const from = random.pick(patch.places);
  const to = random.pick(patch.places);
  const length = Math.min(from.lengthBytes, to.lengthBytes);
  patch.bytes.copyWithin(to.at, from.at, from.at + length);
}

/** One to four changes; half of the time every checksum fits again. */
export function mutate(patch: ImagePatch, random: Random): void {
  const present = KINDS.filter((kind) => patch.placesOf(kind).length > 0);
  for (let changes = 1 + random.below(4); changes > 0; changes--) {
    if (random.chance(0.05)) copyOver(patch, random);
    else mutateField(patch, random.pick(patch.placesOf(random.pick(present))), random);
  }
  if (random.chance(0.5)) patch.seal();
}

/** Fields of descriptors, revoke and commit blocks: headers, tags, counts. */
const CONTROL_FIELDS = [0, 4, 8, 12, 16, 20, 24, 28, 32, 44, 48, 52, 56, 60, 64];

/**
 * One to three changes in the log of `image`, whose bytes are `bytes`; half of them with
 * checksums.
 */
export function mutateJournal(image: JournalImage, bytes: Uint8Array, random: Random): void {
  const { log, blocks } = image;
  const { blockBytes } = log;
  const used = [...log.blocks.keys()];
  const isSealed = random.chance(0.5);
  for (let changes = 1 + random.below(3); changes > 0; changes--) {
    const journalBlock = random.pick([0, ...used]);
    const at = blocks[journalBlock]! * blockBytes;
    const block = bytes.subarray(at, at + blockBytes);
    if (journalBlock > log.last) {
      mutateFastCommit(block, random);
      if (isSealed) sealFastCommit(block);
      continue;
    }
    const field = random.pick(journalBlock === 0 ? Object.values(JSB) : CONTROL_FIELDS);
    const value = random.pick([
      ...BOUNDARIES,
      ...WIDE,
      be32(block, field) + 1,
      ...blocks.slice(0, 8),
    ]);
    putBe32(block, field, value % 2 ** 32);
    if (!isSealed) continue;
    if (journalBlock === 0) log.resealed(block);
    else sealControl(image, block);
  }
}

function sealControl({ log }: JournalImage, block: Uint8Array): void {
  if (log.options.checksum === 0) return;
  if (be32(block, 4) === 2) {
    putBe32(block, 16, commitBlockChecksum(log.seed, block));
    return;
  }
  const at = log.position;
  log.X(block).at(at).reseal(at);
  block.set(log.block(at));
  log.blocks.delete(at);
}

const FC_TAIL = 8;

function mutateFastCommit(block: Uint8Array, random: Random): void {
  let at = 0;
  for (let skip = random.below(8); skip > 0; skip--) {
    const next = at + 4 + le16(block, at + 2);
    if (le16(block, at) === FC_TAIL || next + 8 > block.length) break;
    at = next;
  }
  const field = at + random.pick([0, 2, 4, 8, 12, 16]);
  const value = random.pick([...BOUNDARIES, ...WIDE]);
  if (field < at + 4) putLe16(block, field, value % 0x1_0000);
  else putLe32(block, field, value);
}

/** Puts the checksum in the first TAIL right, if there is still a way to it. */
function sealFastCommit(block: Uint8Array): void {
  for (let at = 0; at + 12 <= block.length; at += 4 + le16(block, at + 2)) {
    if (le16(block, at) !== FC_TAIL) continue;
    putLe32(block, at + 8, crc32c(0, block, 0, at + 8));
    return;
  }
}
