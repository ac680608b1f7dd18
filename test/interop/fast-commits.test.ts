/**
 * Fast commits that the kernel wrote, recovered for good by us: the tree is the one that the kernel
 * comes to, and e2fsck finds nothing wrong. What its replay leaves for e2fsck is right with us.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { MemoryStore } from "../../src/store/memory-store.ts";
import {
  kernelManifest,
  type ManifestLine,
  makeDirtyImage,
  recoverCopy,
} from "../support/dirty-image.ts";
import { openImage } from "../support/ext-images.ts";
import { FAST_ROWS, FAST_WORK } from "../support/fast-work.ts";
import { requireRoot, requireTool, runTool, scratchDirectory } from "../support/tools.ts";

const hasTools = ["mke2fs", "e2fsck", "mount", "losetup", "python3"]
  .map(requireTool)
  .every(Boolean);
const canMount = hasTools && requireRoot("mounting an image");
const directory = scratchDirectory("fast-commits");

/** Files whose attributes have a block of their own, which the kernel's replay does not count. */
const WITH_ATTRIBUTE_BLOCK: readonly unknown[] = ["d/xa"];

/** `line` without what the kernel's replay leaves for e2fsck, and without times of recovery. */
function comparable(line: ManifestLine): ManifestLine {
  if (line["type"] === "d") {
    return { ...line, nlink: 0, blocks: 0, mtime_ns: 0, data: undefined };
  }
  return WITH_ATTRIBUTE_BLOCK.includes(line["path"]) ? { ...line, blocks: 0 } : line;
}

describe.skipIf(!canMount)("fast commits of the kernel on a writable open", () => {
  test.each(FAST_ROWS)("J70 %s are there for good", async (name, args) => {
    const dirty = makeDirtyImage({
      directory,
      name,
      args: args.split(" "),
      sizeText: "64M",
      work: FAST_WORK,
    });
    const wanted = kernelManifest(directory, recoverCopy(directory, dirty)).map(comparable);
    const bytes = new Uint8Array(readFileSync(dirty));
    {
      const store = new MemoryStore(bytes, { canWrite: true });
      await using mounted = await openImage(store, { writable: true, atime: "noatime" });
      const journal = mounted.fs.describe()["journal"] as Record<string, unknown>;
      expect(journal["fastCommitCount"]).toBeGreaterThan(3);
    }
    const own = join(directory, `${name}.own.img`);
    writeFileSync(own, bytes);
    runTool("e2fsck", ["-fn", own]);
    const found = kernelManifest(directory, own);
    expect(found.map(({ path }) => path)).toEqual(wanted.map(({ path }) => path));
    for (const [index, line] of found.entries()) expect(comparable(line)).toEqual(wanted[index]);
    const links = found.filter(({ type }) => type === "d").map(({ nlink }) => nlink);
    expect(Math.min(...(links as number[]))).toBe(2);
  });
});
