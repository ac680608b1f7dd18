/**
 * An image in memory, mounted for writing, as far as the content of files goes: for tests that
 * write, cut and punch files and then ask e2fsck and debugfs what they think of it.
 *
 *     const volume = await openContent(path);
 *     const file = await volume.create("a");
 *     await volume.write(file, 0, bytes);
 *     await volume.close();                     // the image in `path` is what the disk has
 *     expectClean(path);
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import { StoreBlockDevice } from "../../src/block/block-device.ts";
import { type CacheFile, openCacheFile } from "../../src/cache/cache-file.ts";
import { filemapRead } from "../../src/cache/filemap.ts";
import { PageCache } from "../../src/cache/page-cache.ts";
import type { ExtCore } from "../../src/fs/ext/core.ts";
import type { DataMode } from "../../src/fs/ext/data-mode.ts";
import { FileContent } from "../../src/fs/ext/file-content.ts";
import { findSuperblock } from "../../src/fs/ext/find-superblock.ts";
import type { ExtInode } from "../../src/fs/ext/inode.ts";
import { EXT_ROOT_INO, S_IFREG } from "../../src/fs/ext/layout.ts";
import { type ExtMount, mountWritable } from "../../src/fs/ext/mount-writable.ts";
import { extCreate } from "../../src/fs/ext/namespace.ts";
import type { ExtWriter } from "../../src/fs/ext/writer.ts";
import { realClock } from "../../src/lib/clock.ts";
import { Random } from "../../src/lib/random.ts";
import { MIB } from "../../src/lib/units.ts";
import { CountingStore } from "../../src/store/counting-store.ts";
import { FaultyStore } from "../../src/store/faulty-store.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import { runTool, runToolBytes } from "./tools.ts";

export interface ContentOptions {
  readonly arenaBytes?: number | undefined;
  readonly onWriteError?: "drop" | "keep" | undefined;
  readonly data?: DataMode | undefined;
}

/** A file, and a view of it as an open file has one. */
export interface OpenContent {
  readonly inode: ExtInode;
  readonly file: CacheFile;
}

/** See the head of the file. */
export class ContentVolume {
  readonly mount: ExtMount;
  readonly content: FileContent;
  readonly cache: PageCache;
  readonly store: CountingStore;
  readonly faulty: FaultyStore;
  readonly #path: string;
  readonly #bytes: Uint8Array;

  constructor(
    mount: ExtMount,
    content: FileContent,
    cache: PageCache,
    stores: { store: CountingStore; faulty: FaultyStore },
    image: { path: string; bytes: Uint8Array },
  ) {
    this.mount = mount;
    this.content = content;
    this.cache = cache;
    this.store = stores.store;
    this.faulty = stores.faulty;
    this.#path = image.path;
    this.#bytes = image.bytes;
  }

  get core(): ExtCore {
    return this.mount.core;
  }

  get ctx(): ExtWriter {
    return this.mount.writer;
  }

  /** A new file in the root. */
  async create(name: string): Promise<OpenContent> {
    const inode = await this.ctx.transactions.run((handle) => {
      const root = this.core.inode(EXT_ROOT_INO);
      const what = { mode: S_IFREG | 0o644, umask: 0, uid: 0, gid: 0 };
      return extCreate(this.ctx, handle, root, new TextEncoder().encode(name), what);
    });
    return this.open(inode);
  }

  /** A view of a file that is there. */
  open(inode: ExtInode): OpenContent {
    return { inode, file: openCacheFile(this.content.mappings.of(inode)) };
  }

  async inode(ino: number): Promise<ExtInode> {
    return this.core.metadata.run(() => this.core.inode(ino));
  }

  /** Writes all of `bytes`, as often as it takes. */
  async write(
    { file }: OpenContent,
    posBytes: number,
    bytes: Uint8Array,
    flags = 0,
  ): Promise<void> {
    const iocb = { file, posBytes, flags };
    for (let at = 0; at < bytes.length; ) {
      const count = await this.content.write(iocb, bytes.subarray(at));
      expect(count).toBeGreaterThan(0);
      at += count;
    }
  }

  async read(
    { file, inode }: OpenContent,
    posBytes = 0,
    lengthBytes?: number,
  ): Promise<Uint8Array> {
    const into = new Uint8Array(lengthBytes ?? Math.max(0, inode.size - posBytes));
    let doneBytes = 0;
    while (doneBytes < into.length) {
      const iocb = { file, posBytes: posBytes + doneBytes, flags: 0 };
      const count = await filemapRead(iocb, into.subarray(doneBytes));
      expect(count).toBeGreaterThanOrEqual(0);
      if (count === 0) break;
      doneBytes += count;
    }
    return into.subarray(0, doneBytes);
  }

  /** Writes all down without a clean end. */
  async syncAndSave(path: string = this.#path): Promise<void> {
    await this.content.sync();
    await this.ctx.transactions.commit();
    writeFileSync(path, this.#bytes);
  }

  /** Writes the image as the disk has it now. */
  save(path: string): void {
    writeFileSync(path, this.#bytes);
  }

  /** Ends the mount, and writes the image to where it came from. */
  async close(): Promise<void> {
    await this.content.close();
    expect(this.ctx.blocks.reservedCount).toBe(0);
    expect(this.cache.nrDirty).toBe(0);
    this.cache.verify();
    await this.mount.close();
    writeFileSync(this.#path, this.#bytes);
  }
}

/** Mounts the image at `path`, which stays as it is until `close`. */
export async function openContent(
  path: string,
  { arenaBytes = 32 * MIB, onWriteError = "keep", data }: ContentOptions = {},
): Promise<ContentVolume> {
  const clock = realClock;
  const bytes = new Uint8Array(readFileSync(path));
  const memory = new MemoryStore(bytes);
  // As a disk: what is to be durable has to be flushed, so flushes can be counted.
  const capabilities = { ...memory.capabilities, hasVolatileCache: true };
  const faulty = new FaultyStore(Object.assign(memory, { capabilities }), { clock });
  const store = new CountingStore(faulty);
  const bdev = new StoreBlockDevice(store, { clock });
  const cache = new PageCache({ clock, arenaBytes });
  const found = await findSuperblock(bdev, "primary", undefined, undefined);
  const options = { clock, random: new Random(1), data };
  const mount = await mountWritable(bdev, cache, found, options, () => {});
  const content = new FileContent(mount.writer, cache, { atime: "relatime", onWriteError });
  return new ContentVolume(mount, content, cache, { store, faulty }, { path, bytes });
}

/** e2fsck finds nothing to complain of. */
export function expectClean(path: string): void {
  runTool("e2fsck", ["-fn", path]);
}

/** The content of `name` in the root, as debugfs reads it. */
export function contentByDebugfs(path: string, scratch: string, name: string): Uint8Array {
  const out = join(scratch, "dumped");
  runToolBytes("debugfs", ["-R", `dump ${name} ${out}`, path]);
  return new Uint8Array(readFileSync(out));
}
