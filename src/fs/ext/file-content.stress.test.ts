/**
 * Many files at once, written, read, cut and made durable by tasks that know nothing of each other,
 * in an arena that holds a fraction of them: nothing hangs, everybody reads what he wrote, and
 * e2fsck and debugfs agree at the end.
 */
import { describe, expect, test } from "vitest";
import {
  type ContentVolume,
  contentByDebugfs,
  expectClean,
  openContent,
} from "../../../test/support/content-volume.ts";
import { makeImage } from "../../../test/support/ext-images.ts";
import { requireTool, scratchDirectory } from "../../../test/support/tools.ts";
import { equalBytes } from "../../lib/bytes.ts";
import { Random } from "../../lib/random.ts";
import { KIB, MIB } from "../../lib/units.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("debugfs");
const scratch = scratchDirectory("file-content-stress");
const FILES = 6;
const STEPS = 60;
const FILE_BYTES = 4 * MIB;

const KINDS: readonly (readonly [name: string, args: readonly string[]])[] = [
  ["ext4-4k", ["-t", "ext4", "-b", "4096"]],
  ["ext4-1k", ["-t", "ext4", "-b", "1024"]],
  ["ext3-1k", ["-t", "ext3", "-b", "1024"]],
  ["ext2-4k", ["-t", "ext2", "-b", "4096"]],
];

/** One task: changes its file, and looks what is in it. Returns what must be there. */
async function work(volume: ContentVolume, name: string, seed: number): Promise<Uint8Array> {
  const random = new Random(seed);
  const file = await volume.create(name);
  let model = new Uint8Array(0);
  for (let at = 0; at < STEPS; at++) {
    const posBytes = random.below(FILE_BYTES);
    const kind = random.below(8);
    if (kind < 5) {
      const bytes = random.bytes(1 + random.below(random.below(4) === 0 ? 600 * KIB : 9000));
      await volume.write(file, posBytes, bytes);
      const next = new Uint8Array(Math.max(model.length, posBytes + bytes.length));
      next.set(model);
      next.set(bytes, posBytes);
      model = next;
    } else if (kind === 5) {
      await volume.content.fsync(file.inode, file.file, true);
    } else if (kind === 6 && random.below(4) === 0) {
      await volume.content.setSize(file.inode, posBytes);
      const next = new Uint8Array(posBytes);
      next.set(model.subarray(0, posBytes));
      model = next;
    } else {
      const from = random.below(model.length + 1);
      const part = await volume.read(file, from, Math.min(200 * KIB, model.length - from));
      expect(equalBytes(part, model.slice(from, from + part.length)), `${name} at ${from}`).toBe(
        true,
      );
    }
  }
  return model;
}

describe.skipIf(!hasTools)("many files in a small arena", () => {
  test.each(KINDS)(
    "%s: each holds what its writer wrote",
    { timeout: 120_000 },
    async (name, args) => {
      const path = makeImage(scratch, name, args, { sizeText: "64M" });
      const volume = await openContent(path, { arenaBytes: 4 * MIB });
      const names = Array.from({ length: FILES }, (_, at) => `file-${at}`);
      const contents = await Promise.all(names.map((each, at) => work(volume, each, at + 1)));
      await volume.close();
      expectClean(path);
      for (const [at, content] of contents.entries()) {
        expect(equalBytes(contentByDebugfs(path, scratch, names[at]!), content)).toBe(true);
      }
    },
  );
});
