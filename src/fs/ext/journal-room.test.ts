import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { contentByDebugfs } from "../../../test/support/content-volume.ts";
import { makeImage } from "../../../test/support/ext-images.ts";
import { requireTool, runTool, scratchDirectory } from "../../../test/support/tools.ts";
import { openVolume } from "../../front/volume.ts";
import { FsError } from "../../lib/errno.ts";
import { KIB, PAGE_BYTES } from "../../lib/units.ts";
import { MemoryStore } from "../../store/memory-store.ts";
import type { StoreCapabilities, StoreWriteOptions } from "../../store/store.ts";

const hasTools = ["mke2fs", "e2fsck", "debugfs"].map(requireTool).every(Boolean);
const scratch = scratchDirectory("journal-room");

/** A sparse file in memory: what was written where, and how the image was after each write. */
class SparseFile extends MemoryStore {
  override readonly capabilities: StoreCapabilities;
  /** Blocks of the journal, and those of them that were written. */
  readonly journal = new Set<number>();
  readonly made = new Set<number>();
  /** Writes that had to make at least one block of the journal. */
  makingCount = 0;
  /** Bytes from which on a write fails. */
  failsFromBytes = Infinity;
  onWrite: (() => void) | undefined = undefined;

  constructor(image: string, allocatesOnWrite: boolean) {
    super(new Uint8Array(readFileSync(image)));
    this.capabilities = {
      canWrite: true,
      canDiscard: false,
      hasFua: true,
      stableWrites: false,
      hasVolatileCache: true,
      blockBytes: 512,
      allocatesOnWrite,
    };
    for (const word of runTool("debugfs", ["-R", "blocks <8>", image]).split(/\s+/)) {
      if (word !== "") this.journal.add(Number(word));
    }
  }

  override async write(
    offsetBytes: number,
    from: Uint8Array | readonly Uint8Array[],
    options?: StoreWriteOptions,
  ): Promise<void> {
    const lengthBytes = [from].flat().reduce((sum, { length }) => sum + length, 0);
    if (lengthBytes >= this.failsFromBytes) throw new FsError("ENOSPC");
    await super.write(offsetBytes, from, options);
    const known = this.made.size;
    for (let at = offsetBytes; at < offsetBytes + lengthBytes; at += PAGE_BYTES) {
      const block = Math.floor(at / PAGE_BYTES);
      if (this.journal.has(block)) this.made.add(block);
    }
    if (this.made.size > known) this.makingCount++;
    this.onWrite?.();
  }
}

function emptyImage(name: string): string {
  return makeImage(scratch, name, ["-t", "ext4", "-b", "4096"], { sizeText: "16M" });
}

/** Makes `count` files with their names as content, each durable before the next one. */
async function makeFiles(
  store: SparseFile,
  count: number,
  onSynced: (name: string) => void = () => {},
): Promise<void> {
  const volume = await openVolume(store, { writable: true });
  for (let at = 0; at < count; at++) {
    const handle = await volume.fs.open(`/file-${at}`, "w");
    await handle.writeFile(`file-${at}`);
    await handle.sync();
    await handle.close();
    onSynced(`file-${at}`);
  }
  store.onWrite = undefined;
  await volume.close();
}

test.skipIf(!hasTools)("of a sparse file little is made by commits themselves", async () => {
  const image = emptyImage("counted");
  const [sparse, dense] = [new SparseFile(image, true), new SparseFile(image, false)];
  await makeFiles(sparse, 60);
  await makeFiles(dense, 60);
  expect(dense.makingCount).toBeGreaterThan(100);
  expect(sparse.makingCount).toBeLessThanOrEqual(dense.made.size / ((256 * KIB) / PAGE_BYTES) + 3);
  expect(sparse.made.size).toBeLessThan(dense.made.size + (256 * KIB) / PAGE_BYTES + 1);
});

test.skipIf(!hasTools)(
  "to the end of the log and round it, and the image stays clean",
  async () => {
    const image = emptyImage("round");
    const sparse = new SparseFile(image, true);
    // 1,024 blocks, of which each commit takes at least four.
    await makeFiles(sparse, 300);
    // But for the superblock of the journal all of it has been written, and the log nowhere else.
    expect(sparse.made.size).toBeGreaterThanOrEqual(sparse.journal.size - 1);
    writeFileSync(image, sparse.bytes);
    runTool("e2fsck", ["-fn", image]);
    expect(new TextDecoder().decode(contentByDebugfs(image, scratch, "file-299"))).toBe("file-299");
  },
);

test.skipIf(!hasTools)("a crash after any write keeps what is durable", async () => {
  const sparse = new SparseFile(emptyImage("crashed"), true);
  const synced: string[] = [];
  const crashes: { bytes: Uint8Array; synced: readonly string[] }[] = [];
  sparse.onWrite = () => crashes.push({ bytes: sparse.bytes.slice(), synced: [...synced] });
  await makeFiles(sparse, 6, (name) => synced.push(name));
  expect(crashes.length).toBeGreaterThan(12);
  const path = join(scratch, "after.img");
  for (const { bytes, synced: promised } of crashes) {
    writeFileSync(path, bytes);
    runTool("e2fsck", ["-fy", path], { okCodes: [0, 1] });
    const found = promised.map((name) => contentByDebugfs(path, scratch, name));
    expect(found.map((content) => new TextDecoder().decode(content))).toEqual(promised);
  }
});

test.skipIf(!hasTools)("where zeros cannot be written commits do without", async () => {
  const image = emptyImage("full");
  const sparse = new SparseFile(image, true);
  sparse.failsFromBytes = 128 * KIB;
  await makeFiles(sparse, 10);
  writeFileSync(image, sparse.bytes);
  runTool("e2fsck", ["-fn", image]);
});
