import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { makeImage } from "../../../test/support/ext-images.ts";
import { ascii } from "../../../test/support/ext-names.ts";
import { type OpenWriter, openWriter } from "../../../test/support/ext-writer.ts";
import { newInode } from "../../../test/support/name-model.ts";
import {
  requireRoot,
  requireTool,
  runTool,
  scratchDirectory,
} from "../../../test/support/tools.ts";
import { hexOf } from "../../lib/bytes.ts";
import { type AclEntry, aclFromUser, aclToText, aclToUser } from "./acl.ts";
import { chmodAcl } from "./acl-write.ts";
import { dirLookup } from "./dir.ts";
import type { ExtInode } from "./inode.ts";
import { EXT_ROOT_INO, S_IFDIR, S_IFLNK, S_IFREG } from "./layout.ts";
import { extCreate } from "./namespace.ts";
import { readXattrs } from "./xattr.ts";
import { setXattr } from "./xattr-write.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck");
const mayMount = requireRoot("mounting an image") && requireTool("mount") && requireTool("python3");
const scratch = scratchDirectory("acl-write");
const ACCESS = "system.posix_acl_access";
const DEFAULT = "system.posix_acl_default";
const NONE = 0xffff_ffff;

/** Default lists of the directory in which files are made. */
const LISTS: readonly (readonly AclEntry[])[] = [
  [
    { tag: 1, perm: 7, id: NONE },
    { tag: 4, perm: 5, id: NONE },
    { tag: 0x20, perm: 0, id: NONE },
  ],
  [
    { tag: 1, perm: 7, id: NONE },
    { tag: 2, perm: 6, id: 1000 },
    { tag: 4, perm: 7, id: NONE },
    { tag: 8, perm: 4, id: 70_000 },
    { tag: 0x10, perm: 6, id: NONE },
    { tag: 0x20, perm: 4, id: NONE },
  ],
];
const MODES = [0o600, 0o644, 0o666, 0o755, 0o777, 0o070];

function image(name: string): string {
  return makeImage(scratch, name, ["-t", "ext4", "-b", "1024", "-O", "^has_journal"], {
    sizeText: "16M",
  });
}

async function make(
  open: OpenWriter,
  dir: ExtInode,
  name: string,
  mode: number,
): Promise<ExtInode> {
  const what = newInode(mode, { umask: 0o022, target: ascii("t") });
  return open.run((handle) => extCreate(open.writer, handle, dir, ascii(name), what));
}

async function rootOf(open: OpenWriter): Promise<ExtInode> {
  return open.core.metadata.run(() => open.core.inode(EXT_ROOT_INO));
}

function set(
  open: OpenWriter,
  inode: ExtInode,
  name: string,
  value: Uint8Array | null,
): Promise<void> {
  return open.run((handle) => setXattr(open.writer, handle, inode, name, value, 0));
}

async function shown(open: OpenWriter, inode: ExtInode): Promise<Record<string, string>> {
  const xattrs = await open.core.metadata.run(() => readXattrs(open.core, inode));
  return Object.fromEntries([...xattrs].map(([name, value]) => [name, hexOf(value)]));
}

describe.skipIf(!hasTools)("access control lists", () => {
  test("change the mode, and are stored only if they say more than it", async () => {
    const open = await openWriter(image("set"));
    const file = await make(open, await rootOf(open), "f", S_IFREG | 0o644);
    await set(open, file, ACCESS, aclToUser(LISTS[0]!));
    expect([file.mode & 0o777, await shown(open, file)]).toEqual([0o750, {}]);
    await set(open, file, ACCESS, aclToUser(LISTS[1]!));
    expect([file.mode & 0o777, await shown(open, file)]).toEqual([
      0o764,
      { [ACCESS]: hexOf(aclToUser(LISTS[1]!)) },
    ]);
    await open.run((handle) => {
      open.writer.editInode(handle, file);
      file.mode = S_IFREG | 0o640;
      chmodAcl(open.writer, handle, file);
    });
    const after = await open.core.metadata.run(() => readXattrs(open.core, file));
    expect(aclToText(aclFromUser(after.get(ACCESS)!))).toBe(
      "user::rw-,user:1000:rw-,group::rwx,group:70000:r--,mask::r--,other::---",
    );
    await set(open, file, ACCESS, null);
    expect(await shown(open, file)).toEqual({});
    await open.close();
    open.save(join(scratch, "set.img"));
    runTool("e2fsck", ["-fn", join(scratch, "set.img")]);
  });

  test("are refused where they mean nothing", async () => {
    const open = await openWriter(image("refused"));
    const root = await rootOf(open);
    const file = await make(open, root, "f", S_IFREG | 0o644);
    const link = await make(open, root, "l", S_IFLNK | 0o777);
    const list = aclToUser(LISTS[0]!);
    await expect(set(open, file, DEFAULT, list)).rejects.toMatchObject({ code: "EACCES" });
    await expect(set(open, link, ACCESS, list)).rejects.toMatchObject({ code: "EOPNOTSUPP" });
    await expect(set(open, file, ACCESS, ascii("x"))).rejects.toMatchObject({ code: "EINVAL" });
    const half = aclToUser(LISTS[0]!.slice(1));
    await expect(set(open, file, ACCESS, half)).rejects.toMatchObject({ code: "EINVAL" });
    await set(open, file, ACCESS, null);
    await open.close();
  });

  test.skipIf(!mayMount)("are inherited as the kernel lets them be", async () => {
    const path = image("kernel");
    const open = await openWriter(path);
    const ours = await inherited(open);
    await open.close();
    open.save(path);
    runTool("e2fsck", ["-fn", path]);
    const mountPoint = join(scratch, "mnt");
    mkdirSync(mountPoint);
    runTool("mount", ["-o", "loop", path, mountPoint]);
    try {
      for (const [at] of LISTS.entries()) {
        const dir = join(mountPoint, `d${at}`);
        const made = JSON.parse(
          execFileSync("python3", ["-c", PROGRAM, dir], { encoding: "utf8" }),
        );
        expect(made).toEqual(ours[at]);
      }
    } finally {
      runTool("umount", [mountPoint]);
    }
  });
});

/** Makes, in the directory given, what `inherited` makes under other names, and tells the same. */
const PROGRAM = `
import json, os, sys
os.umask(0o022)
made = {}
for mode in [${MODES.join(", ")}]:
    for kind in ["f", "d"]:
        path = "%s/k%s%o" % (sys.argv[1], kind, mode)
        if kind == "d": os.mkdir(path, mode)
        else: os.close(os.open(path, os.O_CREAT | os.O_EXCL, mode))
        lists = {n: os.getxattr(path, n).hex() for n in os.listxattr(path) if "acl" in n}
        made["%s%o" % (kind, mode)] = [os.stat(path).st_mode & 0o7777, lists]
print(json.dumps(made))
`;

type Made = Record<string, readonly [mode: number, lists: Record<string, string>]>;

/** Mode and lists of what is made in directories with these default lists. */
async function inherited(open: OpenWriter): Promise<Made[]> {
  const root = await rootOf(open);
  const all: Made[] = [];
  for (const [at, list] of LISTS.entries()) {
    const dir = await make(open, root, `d${at}`, S_IFDIR | 0o755);
    await set(open, dir, DEFAULT, aclToUser(list));
    const made: Made = {};
    for (const mode of MODES) {
      for (const kind of ["f", "d"]) {
        const name = `${kind}${mode.toString(8)}`;
        const inode = await make(open, dir, name, (kind === "d" ? S_IFDIR : S_IFREG) | mode);
        expect(await open.core.metadata.run(() => dirLookup(open.core, dir, ascii(name)))).toBe(
          inode.ino,
        );
        made[name] = [inode.mode & 0o7777, await shown(open, inode)];
      }
    }
    all.push(made);
  }
  return all;
}
