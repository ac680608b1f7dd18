import { writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import {
  type ContentVolume,
  contentByDebugfs,
  expectClean,
  openContent,
} from "../../../test/support/content-volume.ts";
import { makeImage } from "../../../test/support/ext-images.ts";
import { requireTool, scratchDirectory } from "../../../test/support/tools.ts";
import { IOCB_APPEND } from "../../cache/kiocb.ts";
import { equalBytes } from "../../lib/bytes.ts";
import { Random } from "../../lib/random.ts";
import { KIB, MIB } from "../../lib/units.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("debugfs");
const scratch = scratchDirectory("file-content");

const KINDS: readonly (readonly [name: string, args: readonly string[]])[] = [
  ["ext4, 4 KiB", ["-t", "ext4", "-b", "4096"]],
  ["ext4, 1 KiB", ["-t", "ext4", "-b", "1024"]],
  ["ext4 without a journal", ["-t", "ext4", "-b", "4096", "-O", "^has_journal"]],
  ["ext4, inline data", ["-t", "ext4", "-b", "4096", "-I", "256", "-O", "inline_data"]],
  ["ext3, 4 KiB", ["-t", "ext3", "-b", "4096"]],
  ["ext3, 1 KiB", ["-t", "ext3", "-b", "1024"]],
  ["ext2, 1 KiB", ["-t", "ext2", "-b", "1024"]],
];

function imageOf(name: string, args: readonly string[], sizeText = "32M"): string {
  return makeImage(scratch, name.replace(/\W+/g, "-"), args, { sizeText });
}

/** After the end of the mount: e2fsck, debugfs and a new mount agree that `name` holds `content`. */
async function expectOnDisk(path: string, name: string, content: Uint8Array): Promise<void> {
  expectClean(path);
  expect(equalBytes(contentByDebugfs(path, scratch, name), content)).toBe(true);
}

describe.skipIf(!hasTools)("content of files on images of mke2fs", () => {
  test.each(KINDS)("%s: what is written is there", async (name, args) => {
    const path = imageOf(`write-${name}`, args);
    const volume = await openContent(path);
    const random = new Random(1);
    const content = random.bytes(3 * MIB + 123);
    const file = await volume.create("large");
    await volume.write(file, 0, content.subarray(0, MIB));
    await volume.write(file, MIB, content.subarray(MIB));
    const small = await volume.create("small");
    await volume.write(small, 0, content.subarray(0, 77));
    expect(equalBytes(await volume.read(file), content)).toBe(true);
    await volume.close();
    await expectOnDisk(path, "large", content);
    expect(contentByDebugfs(path, scratch, "small")).toEqual(content.slice(0, 77));
  });
});
