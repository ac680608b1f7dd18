/**
 * Manifests of images that no mount of this kernel can fill: inode fields that only debugfs sets,
 * and features that mke2fs alone can use here, which are compared with the directory it copied.
 */
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";
import { makeExtImage, runDebugfs, withKernelMount } from "../support/kernel-image.ts";
import {
  expectKernelManifest,
  expectSameLines,
  fillImage,
  kernelManifest,
  type ManifestLine,
  mayCompareWithKernel,
  quireManifest,
  treeManifest,
} from "../support/manifest.ts";
import { runTool, scratchDirectory } from "../support/tools.ts";

const mayRun = mayCompareWithKernel();
const scratch = scratchDirectory("manifest-tools");
const ENCRYPT_SCRIPT = fileURLToPath(new URL("../support/encrypt_directory.py", import.meta.url));

function linesByPath(lines: readonly string[]): Map<string, ManifestLine> {
  return new Map(
    lines.map((text) => {
      const line = JSON.parse(text) as ManifestLine;
      return [line.path, line] as const;
    }),
  );
}

describe.skipIf(!mayRun)("inode fields that debugfs set are shown as the kernel shows them", () => {
  test("large counts of blocks, one link for very many, a project, a journal flag", async () => {
    const image = makeExtImage(join(scratch, "fields.img"), "16M", ["-t", "ext4"]);
    withKernelMount(image, (root) => {
      for (const name of ["huge", "high", "plain"]) writeFileSync(join(root, name), name);
      mkdirSync(join(root, "dir/sub"), { recursive: true });
    });
    runDebugfs(image, [
      ...[
        "sif /huge flags 0xC0000",
        "sif /huge blocks 0x12345678",
        "sif /high blocks 0x123456789ab",
      ],
      ...["sif /dir links_count 1", "sif /dir flags 0x20080000", "sif /dir projid 1000"],
      ...["sif /plain flags 0x84000", "sif /plain version 77", "sif /plain size 4294967301"],
    ]);
    const lines = await expectKernelManifest(image);
    const byPath = new Map(lines.map((line) => [line.path, line]));
    expect(byPath.get("huge")?.blocks).toBe(0x12345678 * 2);
    expect(byPath.get("high")?.blocks).toBe(0x123456789ab);
    expect(byPath.get("dir")).toMatchObject({ nlink: 1, flags: "20080000" });
    expect(byPath.get("plain")).toMatchObject({ flags: "84000", size: 2 ** 32 + 5 });
  });

  test("times of inodes with less extra space", async () => {
    const image = makeExtImage(join(scratch, "extra.img"), "16M", ["-t", "ext4"]);
    const sizes = [0, 4, 8, 12, 16, 20, 24, 28, 32];
    fillImage(image, ["times"]);
    withKernelMount(image, (root) => {
      for (const size of sizes) {
        writeFileSync(join(root, `${size}`), "x");
        runTool("touch", ["-d", "2100-01-02T03:04:05.678901234Z", join(root, `${size}`)]);
      }
    });
    runDebugfs(
      image,
      sizes.map((size) => `sif /${size} extra_isize ${size}`),
    );
    const lines = await expectKernelManifest(image);
    const shown = lines.filter(({ path }) => sizes.includes(Number(path)));
    expect(new Set(shown.map((line) => (line as { mtime_ns?: string }).mtime_ns)).size).toBe(2);
  });

  test("a verity file reads as before its flag was set", async () => {
    const image = makeExtImage(join(scratch, "verity.img"), "16M", ["-t", "ext4", "-O", "verity"]);
    withKernelMount(image, (root) => {
      writeFileSync(join(root, "sealed"), Buffer.alloc(70_000, "sealed"));
    });
    const before = linesByPath(kernelManifest(image)).get("sealed")!;
    runDebugfs(image, ["sif /sealed flags 0x180000"]);
    const after = linesByPath(await quireManifest(image)).get("sealed")!;
    expect(after).toEqual({ ...before, flags: "180000" });
  });
});

/**
 * What mke2fs -d keeps of a file, in the form of a manifest line: times in whole seconds, and
 * symlinks with several names as several symlinks.
 */
function kept(text: string, blockBytes: number, isInline: boolean): string {
  const line = JSON.parse(text) as Record<string, unknown> & ManifestLine;
  const mtimeSec = Number(BigInt(line["mtime_ns"] as string) / 1_000_000_000n);
  const { ino: _ino, blocks: _blocks, flags: _flags, atime_ns: _atime, ...rest } = line;
  const data = line.data === undefined ? {} : { data: roundedOut(line, blockBytes, isInline) };
  const nlink = line.type === "l" ? 1 : line.nlink;
  return JSON.stringify({ ...rest, ...data, nlink, mtime_ns: mtimeSec });
}

/**
 * The data ranges that a copy with larger blocks has. Where files begin as inline data, mke2fs
 * gives them their first block although it is a hole.
 */
function roundedOut(line: ManifestLine, blockBytes: number, isInline: boolean): [number, number][] {
  const ranges: [number, number][] = [];
  if (isInline && (line.data?.length ?? 0) > 0) ranges.push([0, Math.min(blockBytes, line.size!)]);
  for (const [start, end] of line.data ?? []) {
    const from = Math.floor(start / blockBytes) * blockBytes;
    const to = Math.min(Math.ceil(end / blockBytes) * blockBytes, line.size!);
    const last = ranges.at(-1);
    if (last !== undefined && last[1] >= from) last[1] = to;
    else ranges.push([from, to]);
  }
  return ranges;
}

describe.skipIf(!mayRun)(
  "an image that mke2fs alone can make here reads like what it copied",
  () => {
    const PARTS = [
      "sizes",
      "names",
      "links",
      "specials",
      "owners",
      "xattrs",
      "acls",
      "directories",
    ];
    const source = join(scratch, "source.img");
    beforeAll(() => {
      makeExtImage(source, "64M", ["-t", "ext4", "-b", "1024"]);
      fillImage(source, PARTS);
    });

    test.each([
      ["-t ext2 -b 8192", 8192],
      ["-t ext4 -b 16384", 16384],
      ["-t ext4 -b 65536", 65536],
      ["-t ext4 -b 65536 -O inline_data,ea_inode", 65536],
      ["-t ext4 -b 4096 -O casefold,inline_data -E encoding=utf8", 4096],
      ["-t ext4 -b 2048 -O casefold,large_dir,verity -E encoding=utf8,encoding_flags=strict", 2048],
    ] as const)("%s", async (args, blockBytes) => {
      const image = join(scratch, "copy.img");
      const wanted = withKernelMount(
        source,
        (root) => {
          makeExtImage(image, "192M", [...args.split(" "), "-d", root]);
          return treeManifest(root);
        },
        "ro",
      );
      const ours = await quireManifest(image);
      rmSync(image);
      // Both have a root and a directory lost+found of their own.
      const isCopied = (text: string): boolean => !/^\{"path":"(\.|lost\+found)"/.test(text);
      const asKept = (text: string): string => kept(text, blockBytes, args.includes("inline_data"));
      expectSameLines(ours.filter(isCopied).map(asKept), wanted.filter(isCopied).map(asKept));
    });
  },
);

/** True if this kernel encrypts: its configuration decides, not its version. */
function encryptTree(root: string): boolean {
  mkdirSync(join(root, "secret"));
  try {
    runTool("python3", [ENCRYPT_SCRIPT, root, join(root, "secret"), "16"]);
  } catch (thrown) {
    console.warn(`skipped: this kernel does not encrypt: ${String(thrown).split("\n")[1]}`);
    return false;
  }
  mkdirSync(join(root, "secret/below"));
  for (let at = 0; at < 60; at++) {
    const name = `${at}`.padEnd(1 + ((at * 37) % 255), "n");
    const directory = join(root, at % 2 === 0 ? "secret" : "secret/below");
    if (at % 5 === 0) symlinkSync("t".repeat(1 + ((at * 97) % 900)), join(directory, name));
    else writeFileSync(join(directory, name), name.repeat(at));
  }
  return true;
}

describe.skipIf(!mayRun)("an encrypted directory without its key", () => {
  test.each(["encrypt", "encrypt,^dir_index,inline_data"])("%s", async (features) => {
    const image = makeExtImage(join(scratch, "encrypted.img"), "32M", [
      ...["-t", "ext4", "-b", "4096", "-O", features],
    ]);
    const isEncrypted = withKernelMount(image, encryptTree);
    if (!isEncrypted) return;
    const ours = await quireManifest(image, { stderr: /^(quire: ENOKEY.*\n)+$/ });
    expectSameLines(ours, kernelManifest(image));
    expect(ours.filter((line) => line.includes('"error":"ENOKEY"')).length).toBe(48);
  });
});
