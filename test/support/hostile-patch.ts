/**
 * ImagePatch: a healthy image to be damaged on purpose, with the checksums put right afterwards.
 *
 *     const patch = await ImagePatch.of(base);
 *     patch.putInode32("sparse", INODE.i_size_lo, 7);        // any field of the inode behind a
 *     path
 *     patch.seal();                                          // all checksums fit again
 *     await judgeBytes(patch.bytes);
 *
 * `places` lists every structure of the healthy image: what there is to be damaged, and where the
 * checksum of each lies. They are found by quire itself while nothing is wrong yet.
 */
import { StoreBlockDevice } from "../../src/block/block-device.ts";
import { PageCache } from "../../src/cache/page-cache.ts";
import { walkTree } from "../../src/front/tree/walk.ts";
import {
  descriptorChecksum,
  directoryChecksum,
  extentChecksum,
  htreeChecksum,
  inodeChecksum,
  inodeSeed,
  superblockChecksum,
  xattrBlockChecksum,
} from "../../src/fs/ext/checksum.ts";
import { dirShapeOf, isIndexBlock } from "../../src/fs/ext/dir-block.ts";
import { type ExtFileSystem, mountExt } from "../../src/fs/ext/ext-fs.ts";
import type { ExtInode } from "../../src/fs/ext/inode.ts";
import { EH, EI, EXTENT_MAGIC, GD, INODE, SB } from "../../src/fs/ext/layout.ts";
import type { Superblock } from "../../src/fs/ext/superblock.ts";
import { le16, le32, putLe16, putLe32 } from "../../src/lib/bytes.ts";
import { realClock } from "../../src/lib/clock.ts";
import { MIB } from "../../src/lib/units.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import type { BaseImage } from "./hostile-images.ts";

export type PlaceKind =
  | "superblock"
  | "descriptors"
  | "block bitmap"
  | "inode bitmap"
  | "inode"
  | "extents"
  | "pointers"
  | "directory"
  | "index"
  | "xattrs"
  | "content";

/** One structure of an image. */
export interface Place {
  readonly kind: PlaceKind;
  readonly at: number;
  readonly lengthBytes: number;
  /** The inode that it belongs to, 0 if it is the image's. */
  readonly ino: number;
}

/** Where entries of an index begin, in its root and in its nodes. */
const DX_ROOT_AT = 0x20;
const DX_NODE_AT = 8;

/** See the head of the file. */
export class ImagePatch {
  readonly bytes: Uint8Array;
  readonly sb: Superblock;
  readonly places: readonly Place[];
  /** Inode numbers by path; "." is the root. */
  readonly inos: ReadonlyMap<string, number>;
  readonly #pristine: Uint8Array;
  readonly #slots: ReadonlyMap<number, number>;

  private constructor(base: BaseImage, survey: Survey) {
    this.#pristine = base.bytes;
    this.bytes = base.bytes.slice();
    this.sb = survey.sb;
    this.places = survey.places;
    this.inos = survey.inos;
    this.#slots = survey.slots;
  }

  static async of(base: BaseImage): Promise<ImagePatch> {
    return new ImagePatch(base, await surveyOf(base.bytes));
  }

  /** Undoes all that was done. */
  reset(): void {
    this.bytes.set(this.#pristine);
  }

  placesOf(kind: PlaceKind, path?: string): readonly Place[] {
    const ino = path === undefined ? undefined : this.ino(path);
    return this.places.filter((place) => place.kind === kind && (ino ?? place.ino) === place.ino);
  }

  ino(path: string): number {
    const ino = this.inos.get(path);
    if (ino === undefined) throw new Error(`there is no ${path} in the image`);
    return ino;
  }

  /** The bytes of a block. */
  block(blocknr: number): Uint8Array {
    const { blockBytes } = this.sb;
    return this.bytes.subarray(blocknr * blockBytes, (blocknr + 1) * blockBytes);
  }

  blockOf(place: Place): number {
    return Math.floor(place.at / this.sb.blockBytes);
  }

  view(place: Place): Uint8Array {
    return this.bytes.subarray(place.at, place.at + place.lengthBytes);
  }

  /** The slot of the inode behind `path`, or with that number. */
  inode(path: string | number): Uint8Array {
    const ino = typeof path === "string" ? this.ino(path) : path;
    const at = this.#slots.get(ino);
    if (at === undefined) throw new Error(`inode ${ino} has no known slot`);
    return this.bytes.subarray(at, at + this.sb.inodeBytes);
  }

  get superblock(): Uint8Array {
    return this.bytes.subarray(1024, 2048);
  }

  /** Word `index` of `i_block`. */
  putPointer(path: string | number, index: number, blocknr: number): void {
    putLe32(this.inode(path), INODE.i_block + 4 * index, blocknr);
  }

  /** Puts the checksums of all places right. A structure too damaged to have one keeps its own. */
  seal(): void {
    const { sb } = this;
    if (!sb.hasMetadataCsum) return;
    for (const place of this.places) this.#sealPlace(place);
    putLe32(this.superblock, SB.s_checksum, superblockChecksum(this.superblock));
  }

  #sealPlace(place: Place): void {
    const view = this.view(place);
    const { seed } = this.sb;
    switch (place.kind) {
      case "descriptors":
        for (let group = 0; group < this.sb.groupCount; group++) {
          const size = this.sb.descriptorBytes;
          const raw = view.subarray(group * size, (group + 1) * size);
          if (raw.length === size)
            putLe16(raw, GD.bg_checksum, descriptorChecksum(seed, group, raw));
        }
        return;
      case "inode":
        sealInode(view, place.ino, seed);
        return;
      case "extents": {
        const tailAt = 12 * (le16(view, EH.eh_max) + 1);
        if (tailAt + 4 > view.length) return;
        putLe32(view, tailAt, extentChecksum(this.#seedOf(place), view, tailAt));
        return;
      }
      case "directory":
        putLe32(view, view.length - 4, directoryChecksum(this.#seedOf(place), view));
        return;
      case "index":
        this.#sealIndex(view, this.#seedOf(place));
        return;
      case "xattrs":
        putLe32(view, 0x10, xattrBlockChecksum(seed, this.blockOf(place), view));
        return;
      default:
    }
  }

  #sealIndex(view: Uint8Array, iseed: number): void {
    const entriesAt = le16(view, 4) === 12 ? DX_ROOT_AT : DX_NODE_AT;
    const tailAt = entriesAt + 8 * le16(view, entriesAt);
    const usedBytes = entriesAt + 8 * le16(view, entriesAt + 2);
    if (tailAt + 8 > view.length || usedBytes > tailAt) return;
    putLe32(view, tailAt + 4, htreeChecksum(iseed, view, usedBytes, tailAt));
  }

  #seedOf({ ino }: Place): number {
    return inodeSeed(this.sb.seed, ino, le32(this.inode(ino), INODE.i_generation));
  }
}

function sealInode(raw: Uint8Array, ino: number, seed: number): void {
  const hasHigh = raw.length > 128 && le16(raw, INODE.i_extra_isize) >= 4;
  const iseed = inodeSeed(seed, ino, le32(raw, INODE.i_generation));
  const sum = inodeChecksum(iseed, raw, hasHigh);
  putLe16(raw, INODE.i_checksum_lo, sum);
  if (hasHigh) putLe16(raw, INODE.i_checksum_hi, sum >>> 16);
}

interface Survey {
  readonly sb: Superblock;
  readonly places: readonly Place[];
  readonly inos: ReadonlyMap<string, number>;
  readonly slots: ReadonlyMap<number, number>;
}

async function surveyOf(bytes: Uint8Array): Promise<Survey> {
  const store = new MemoryStore(bytes);
  const device = new StoreBlockDevice(store, { clock: realClock });
  const cache = new PageCache({ arenaBytes: 8 * MIB, clock: realClock });
  const fs = await mountExt(device, cache, { clock: realClock, noload: true });
  const surveyor = new Surveyor(fs, bytes);
  const root = await fs.inode(fs.rootIno);
  for await (const { path, inode } of walkTree(fs, root)) {
    await surveyor.add(Buffer.from(path).toString(), inode as ExtInode);
  }
  await fs.close();
  return surveyor;
}

class Surveyor implements Survey {
  readonly sb: Superblock;
  readonly places: Place[] = [];
  readonly inos = new Map<string, number>();
  readonly slots = new Map<number, number>();
  readonly #fs: ExtFileSystem;
  readonly #bytes: Uint8Array;
  readonly #seen = new Set<number>();

  constructor(fs: ExtFileSystem, bytes: Uint8Array) {
    this.#fs = fs;
    this.#bytes = bytes;
    const { sb } = fs.core;
    this.sb = sb;
    this.places.push({ kind: "superblock", at: 1024, lengthBytes: 1024, ino: 0 });
    const table = fs.core.groups.descriptorBlock(0);
    this.#block("descriptors", table, 0);
    const raw = bytes.subarray(table * sb.blockBytes);
    this.#block("block bitmap", le32(raw, GD.bg_block_bitmap_lo), 0);
    this.#block("inode bitmap", le32(raw, GD.bg_inode_bitmap_lo), 0);
    const inodeTable = le32(raw, GD.bg_inode_table_lo) * sb.blockBytes;
    for (let ino = 1; ino <= sb.inodesPerGroup; ino++) {
      this.slots.set(ino, inodeTable + (ino - 1) * sb.inodeBytes);
    }
  }

  #block(kind: PlaceKind, blocknr: number, ino: number): void {
    if (this.#seen.has(blocknr)) return;
    this.#seen.add(blocknr);
    const { blockBytes } = this.sb;
    this.places.push({ kind, at: blocknr * blockBytes, lengthBytes: blockBytes, ino });
  }

  async add(path: string, inode: ExtInode): Promise<void> {
    const { ino } = inode;
    this.inos.set(path, ino);
    const at = this.slots.get(ino);
    if (at === undefined) return; // In another group: left as it is.
    this.places.push({ kind: "inode", at, lengthBytes: this.sb.inodeBytes, ino });
    if (inode.fileAclBlock !== 0) this.#block("xattrs", inode.fileAclBlock, ino);
    if (inode.isInline) return;
    if (inode.hasExtents) this.#addNodes(inode.iBlock, ino);
    else if (inode.type === "file" || inode.type === "directory") this.#addPointers(inode);
    if (inode.type !== "file" && inode.type !== "directory") return;
    for (const extent of await this.#fs.extents(inode)) this.#addBlocks(inode, extent);
  }

  #addNodes(node: Uint8Array, ino: number): void {
    if (le16(node, EH.eh_magic) !== EXTENT_MAGIC || le16(node, EH.eh_depth) === 0) return;
    for (let index = 1; index <= le16(node, EH.eh_entries); index++) {
      const blocknr = le32(node, 12 * index + EI.ei_leaf_lo);
      this.#block("extents", blocknr, ino);
      this.#addNodes(this.#bytes.subarray(blocknr * this.sb.blockBytes), ino);
    }
  }

  #addPointers(inode: ExtInode): void {
    const visit = (blocknr: number, level: number): void => {
      if (blocknr === 0 || level === 0) return;
      this.#block("pointers", blocknr, inode.ino);
      const { blockBytes } = this.sb;
      const array = this.#bytes.subarray(blocknr * blockBytes, (blocknr + 1) * blockBytes);
      for (let at = 0; at < array.length; at += 4) visit(le32(array, at), level - 1);
    };
    for (const level of [1, 2, 3]) visit(le32(inode.iBlock, 4 * (11 + level)), level);
  }

  #addBlocks(
    inode: ExtInode,
    extent: { logicalBytes: number; physicalBytes: number; lengthBytes: number },
  ): void {
    const { blockBytes } = this.sb;
    const shape = dirShapeOf(this.#fs.core, inode);
    for (let done = 0; done < extent.lengthBytes; done += blockBytes) {
      const blocknr = (extent.physicalBytes + done) / blockBytes;
      const fileBlock = (extent.logicalBytes + done) / blockBytes;
      const data = this.#bytes.subarray(blocknr * blockBytes, (blocknr + 1) * blockBytes);
      let kind: PlaceKind = "content";
      if (inode.type === "directory") {
        kind = isIndexBlock(data, fileBlock, shape) ? "index" : "directory";
      }
      this.#block(kind, blocknr, inode.ino);
    }
  }
}
