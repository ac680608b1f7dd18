/**
 * Extended attributes and access control lists against the kernel, which wrote them: every place
 * where a value can lie, every prefix that root sees.
 */
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { aclFromUser, aclToText } from "../../src/fs/ext/acl.ts";
import { inodeAt, makeExtImage, openExtImage, withKernelMount } from "../support/kernel-image.ts";
import { requireRoot, requireTool, runTool, scratchDirectory } from "../support/tools.ts";

const TOOLS = ["mke2fs", "mount", "umount", "setfattr", "getfattr", "setfacl", "getfacl"];
const mayRun = TOOLS.every(requireTool) && requireRoot("mounting an image");
const scratch = scratchDirectory("ext-xattrs");

/** Name and value in hexadecimal digits, as `getfattr` shows them to root. */
function kernelXattrs(path: string): Map<string, string> {
  const args = ["-h", "-d", "-m", "-", "-e", "hex", "--absolute-names", path];
  const lines = runTool("getfattr", args).split("\n");
  const pairs = lines.filter((line) => line.includes("=")).map((line) => line.split("="));
  return new Map(pairs.map(([name = "", value = "0x"]) => [name, value.slice(2)]));
}

async function ourXattrs(
  opened: Awaited<ReturnType<typeof openExtImage>>,
  name: string,
): Promise<Map<string, string>> {
  const xattrs = await opened.fs.xattrs(await inodeAt(opened.fs, name));
  return new Map([...xattrs].map(([key, value]) => [key, Buffer.from(value).toString("hex")]));
}

function setXattr(path: string, name: string, value: Uint8Array): void {
  const hex = `0x${Buffer.from(value).toString("hex")}`;
  runTool("setfattr", ["-h", "-n", name, "-v", hex, path]);
}

/** Gives the files of `root` attributes of all kinds and sizes. */
function fill(root: string, sizeMax: number): void {
  const file = (name: string): string => {
    const path = join(root, name);
    writeFileSync(path, name);
    return path;
  };
  setXattr(file("one"), "user.a", Buffer.from("1"));
  const kinds = file("kinds");
  for (const name of ["user.empty", "trusted.t", "security.q", "user.é", "user.x"]) {
    setXattr(kinds, name, Buffer.from(name === "user.empty" ? "" : `value of ${name}`));
  }
  for (const size of [1, 3, 4, 60, 99, 100, 101, 500, 900, 3000, 3900, 8192, 20_000, 40_000]) {
    if (size > sizeMax) continue;
    setXattr(file(`size${size}`), "user.big", Buffer.alloc(size, size & 0xff));
  }
  const shared = Buffer.alloc(200, 0x53);
  for (const name of ["share1", "share2", "share3"]) {
    setXattr(file(name), "user.shared", shared);
    setXattr(join(root, name), "user.other", shared);
  }
  const many = file("many");
  for (let at = 0; at < 20; at++) setXattr(many, `user.n${at}`, Buffer.from(`${at * 7}`));
  for (let at = 0; at < 20; at += 3) runTool("setfattr", ["-x", `user.n${at}`, many]);
  mkdirSync(join(root, "dir"));
  setXattr(join(root, "dir"), "user.on-directory", Buffer.from("d"));
  symlinkSync("nowhere", join(root, "link"));
  setXattr(join(root, "link"), "trusted.on-link", Buffer.from("l"));
  file("none");
}

const NAMES = ["one", "kinds", "share1", "share2", "share3", "many", "dir", "link", "none"];

describe.skipIf(!mayRun)("extended attributes", () => {
  for (const [kind, args, sizeMax] of [
    ["of inodes with room", ["-t", "ext4", "-b", "4096"], 3000],
    ["of small blocks", ["-t", "ext4", "-b", "1024"], 500],
    ["of inodes of 128 bytes, no checksums", ["-t", "ext2", "-b", "4096", "-I", "128"], 3000],
    ["of large inodes", ["-t", "ext4", "-b", "4096", "-I", "1024"], 3900],
    ["with inodes of their own", ["-t", "ext4", "-b", "4096", "-O", "ea_inode"], 40_000],
    [
      "with inodes of their own, no checksums",
      ["-t", "ext4", "-b", "1024", "-O", "ea_inode,^metadata_csum"],
      40_000,
    ],
    ["beside inline data", ["-t", "ext4", "-b", "4096", "-O", "inline_data"], 3000],
  ] as const) {
    test(`${kind} are those that the kernel shows`, async () => {
      const image = makeExtImage(join(scratch, "x.img"), "32M", args);
      const names = [...NAMES];
      withKernelMount(image, (root) => {
        fill(root, sizeMax);
      });
      for (const size of [1, 3, 4, 60, 99, 100, 101, 500, 900, 3000, 3900, 8192, 20_000, 40_000]) {
        if (size <= sizeMax) names.push(`size${size}`);
      }
      const expected = withKernelMount(
        image,
        (root) => names.map((name) => [name, kernelXattrs(join(root, name))] as const),
        "ro",
      );
      const opened = await openExtImage(image);
      for (const [name, xattrs] of expected) {
        expect(await ourXattrs(opened, name), name).toEqual(xattrs);
      }
      expect(expected.find(([name]) => name === "kinds")?.[1].size).toBe(5);
      await opened.close();
    });
  }

  test("that are access control lists have the form of users, and a text", async () => {
    const image = makeExtImage(join(scratch, "acl.img"), "16M", ["-t", "ext4"]);
    const list = "u::rw-,u:1000:r--,g::r--,g:70000:rw-,m::rw-,o::---";
    const expected = withKernelMount(image, (root) => {
      writeFileSync(join(root, "f"), "");
      mkdirSync(join(root, "d"));
      runTool("setfacl", ["-m", list, join(root, "f")]);
      runTool("setfacl", ["-m", list, join(root, "d")]);
      runTool("setfacl", ["-d", "-m", "u:7:rwx,g:4294967294:--x", join(root, "d")]);
      return ["f", "d"].map((name) => [name, kernelXattrs(join(root, name))] as const);
    });
    const opened = await openExtImage(image);
    for (const [name, xattrs] of expected) {
      expect(await ourXattrs(opened, name)).toEqual(xattrs);
    }
    const file = await opened.fs.xattrs(await inodeAt(opened.fs, "f"));
    expect(aclToText(aclFromUser(file.get("system.posix_acl_access")!))).toBe(
      "user::rw-,user:1000:r--,group::r--,group:70000:rw-,mask::rw-,other::---",
    );
    const dir = await opened.fs.xattrs(await inodeAt(opened.fs, "d"));
    expect(aclToText(aclFromUser(dir.get("system.posix_acl_default")!))).toBe(
      "user::rw-,user:7:rwx,group::r--,group:4294967294:--x,mask::rwx,other::---",
    );
    await opened.close();
  });
});
