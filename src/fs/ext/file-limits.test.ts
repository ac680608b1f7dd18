import { closeSync, ftruncateSync, mkdirSync, openSync, rmSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { makeImage } from "../../../test/support/ext-images.ts";
import {
  requireRoot,
  requireTool,
  runTool,
  scratchDirectory,
} from "../../../test/support/tools.ts";
import { openImage } from "../../front/open-image.ts";
import { hasErrnoCode } from "../../lib/errno.ts";

const hasTools = ["mke2fs", "e2fsck"].every(requireTool);
const mayMount = requireRoot("mounting an image") && requireTool("mount");
const scratch = scratchDirectory("file-limits");
/** More than any file has. */
const BEYOND = 2 ** 50;

/** The largest size that `set` does not refuse. */
async function largest(set: (sizeBytes: number) => unknown): Promise<number> {
  let [low, high] = [0, BEYOND];
  while (low + 1 < high) {
    const middle = Math.floor((low + high) / 2);
    try {
      await set(middle);
      low = middle;
    } catch (thrown) {
      if (!hasErrnoCode(thrown) || thrown.code !== "EFBIG") throw thrown;
      high = middle;
    }
  }
  return low;
}

function kernelLimit(path: string): Promise<number> {
  const root = join(scratch, "mounted");
  mkdirSync(root, { recursive: true });
  runTool("mount", ["-t", "ext4", "-o", "loop", path, root]);
  const fd = openSync(join(root, "file"), "w");
  return largest((sizeBytes) => ftruncateSync(fd, sizeBytes)).finally(() => {
    closeSync(fd);
    rmSync(join(root, "file"));
    runTool("umount", [root]);
  });
}

test
  .skipIf(!hasTools || !mayMount)
  .each([
    "-t ext2 -b 1024",
    "-t ext3 -b 2048",
    "-t ext3 -b 4096",
    "-t ext2 -b 4096 -O huge_file",
    "-t ext4 -b 1024 -O ^huge_file",
    "-t ext4 -b 4096 -O ^huge_file",
    "-t ext4 -b 4096",
  ])("%s: a file can be as long as in Linux, which opens the longest", async (args) => {
  const path = makeImage(scratch, "image", args.split(" "), { sizeText: "32M" });
  const wanted = await kernelLimit(path);
  const volume = await openImage(path, { writable: true });
  await volume.fs.writeFile("/long", "");
  expect(await largest((sizeBytes) => volume.fs.truncate("/long", sizeBytes))).toBe(wanted);
  const file = await volume.fs.open("/long", "r+");
  await file.write(Uint8Array.of(7), 0, 1, wanted - 1);
  await expect(file.write(Uint8Array.of(7), 0, 1, wanted)).rejects.toMatchObject({ code: "EFBIG" });
  await file.close();
  await volume.close();
  runTool("e2fsck", ["-fn", path]);
  expect(
    runTool("sh", [
      "-c",
      `mount -t ext4 -o loop,ro ${path} ${scratch}/mounted && stat -c %s ` +
        `${scratch}/mounted/long; umount ${scratch}/mounted`,
    ]),
  ).toBe(`${wanted}\n`);
});
