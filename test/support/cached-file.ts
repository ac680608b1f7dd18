/** A `ScriptedFile` opened through a page cache: the fixture of the cache's tests. */
import type { AddressSpace, MappingOptions } from "../../src/cache/address-space.ts";
import { type CacheFile, openCacheFile } from "../../src/cache/cache-file.ts";
import { filemapRead } from "../../src/cache/filemap.ts";
import type { Folio } from "../../src/cache/folio.ts";
import { PageCache } from "../../src/cache/page-cache.ts";
import { assert } from "../../src/lib/assert.ts";
import { equalBytes } from "../../src/lib/bytes.ts";
import { VirtualClock } from "../../src/lib/clock.ts";
import { MIB, PAGE_BYTES } from "../../src/lib/units.ts";
import { expectedBytes, ScriptedFile } from "./scripted-file.ts";

export interface CachedFileOptions extends MappingOptions {
  readonly sizeBytes: number;
  readonly arenaBytes?: number;
}

export class CachedFile {
  readonly clock: VirtualClock = new VirtualClock();
  readonly cache: PageCache;
  readonly script: ScriptedFile;
  readonly mapping: AddressSpace;
  readonly file: CacheFile;

  /**
   * Single pages and windows of 32 pages, as the cases of the specification have it, unless told.
   */
  constructor({ sizeBytes, arenaBytes = 16 * MIB, ...options }: CachedFileOptions) {
    this.cache = new PageCache({ clock: this.clock, arenaBytes });
    this.script = new ScriptedFile(sizeBytes);
    this.mapping = this.cache.openMapping(this.script, this.script, {
      maxOrder: 0,
      raPages: 32,
      ...options,
    });
    this.file = openCacheFile(this.mapping);
  }

  /** The folio that holds page `index`, which must be cached. */
  folio(index: number): Folio {
    const folio = this.mapping.folioAt(index);
    assert(folio !== undefined, `page ${index} is cached`);
    return folio;
  }

  /** Reads through `file`, checks the bytes, and returns the count or errno. */
  async read(
    posBytes: number,
    lengthBytes: number,
    options: { file?: CacheFile; flags?: number; signal?: AbortSignal } = {},
  ): Promise<number> {
    const into = new Uint8Array(lengthBytes);
    const { file = this.file, flags = 0, signal } = options;
    const count = await filemapRead({ file, posBytes, flags, signal }, into);
    if (count > 0) {
      const isEqual = equalBytes(into.subarray(0, count), expectedBytes(posBytes, count));
      assert(isEqual, `bytes ${posBytes} to ${posBytes + count} are the file's`);
    }
    return count;
  }

  /** Reads `count` pages from page `index` on. */
  readPages(index: number, count = 1): Promise<number> {
    return this.read(index * PAGE_BYTES, count * PAGE_BYTES);
  }

  /** Log of the reads that `action` causes. */
  async logOf(action: () => unknown): Promise<string[]> {
    const before = this.script.log.length;
    await action();
    return this.script.log.slice(before);
  }
}
