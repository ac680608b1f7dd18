/**
 * Manifests of images whose journals are dirty, through the command line: a tree with files of
 * every kind, made in several transactions, is that of the kernel's mount after its own recovery,
 * and the image stays as it was.
 */
import { copyFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { recoverCopy, sha256Of } from "../support/dirty-image.ts";
import { makeExtImage, withKernelMount } from "../support/kernel-image.ts";
import {
  COMMON_PARTS,
  expectSameLines,
  fillTree,
  kernelManifest,
  type ManifestLine,
  mayCompareWithKernel,
  quireManifest,
  runQuire,
} from "../support/manifest.ts";
import { runTool, scratchDirectory } from "../support/tools.ts";

const mayRun = mayCompareWithKernel();
const scratch = scratchDirectory("manifest-journal");

/**
 * Fills the image in three steps, the first two of them synced, and copies it while it is mounted,
 * after an fsync: what came last is in the journal alone.
 */
function dirtyImage(args: string, mountOptions: string, more: readonly string[]): string {
  const live = makeExtImage(join(scratch, "live.img"), "64M", args.split(" "));
  const dirty = join(scratch, "dirty.img");
  const parts = [...COMMON_PARTS, ...more];
  const third = Math.ceil(parts.length / 3);
  withKernelMount(
    live,
    (root) => {
      for (let at = 0; at < parts.length; at += third) {
        if (at > 0) runTool("sync", ["-f", root]);
        fillTree(root, parts.slice(at, at + third));
      }
      runTool("rm", ["-r", join(root, "directories"), join(root, "names/deep")]);
      runTool("mv", [join(root, "owners"), join(root, "sizes/owners")]);
      const last = join(root, "last");
      writeFileSync(last, "synced");
      runTool("sync", [last]);
      copyFileSync(live, dirty);
    },
    `rw,commit=300${mountOptions}`,
  );
  rmSync(live);
  return dirty;
}

describe.skipIf(!mayRun)("an image that was copied while it was mounted", () => {
  test.each([
    { args: "-t ext3 -b 1024", options: "", more: [] },
    { args: "-t ext3 -b 4096 -I 128", options: ",data=journal", more: [] },
    { args: "-t ext4 -b 1024 -O ea_inode", options: "", more: ["ea_inode"] },
    { args: "-t ext4 -b 4096 -O inline_data", options: ",data=journal", more: ["inline"] },
    { args: "-t ext4 -b 4096 -O fast_commit,orphan_file", options: ",nodelalloc", more: [] },
    {
      args: "-t ext4 -b 1024 -O ^64bit,^extents",
      options: ",journal_async_commit,data=writeback",
      more: [],
    },
  ])("$args $options", async ({ args, options, more }) => {
    const dirty = dirtyImage(args, options, more);
    const before = sha256Of(dirty);
    const ours = await quireManifest(dirty, { stderr: /^(quire: warning: .*journal.*\n)*$/ });
    expect(sha256Of(dirty)).toBe(before);
    expect(ours.map((line) => (JSON.parse(line) as ManifestLine).path)).toContain("last");
    const { stdout } = await runQuire(["ls", dirty, "/", "--noload"]);
    expect(stdout).not.toContain("last");
    const recovered = recoverCopy(scratch, dirty);
    expectSameLines(ours, kernelManifest(recovered));
    rmSync(recovered);
  });
});
