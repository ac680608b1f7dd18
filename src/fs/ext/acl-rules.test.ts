import { describe, expect, test } from "vitest";
import type { AclEntry } from "./acl.ts";
import {
  ACL_GROUP,
  ACL_GROUP_OBJ,
  ACL_MASK,
  ACL_OTHER,
  ACL_USER,
  ACL_USER_OBJ,
  aclFromDisk,
  aclFromUser,
  aclToDisk,
  aclToUser,
} from "./acl.ts";
import { aclWithMode, checkAcl, inheritAcl, isPlainAcl, modeWithAcl } from "./acl-rules.ts";

const NONE = 0xffff_ffff;
const TAGS: Readonly<Record<string, number>> = {
  u: ACL_USER_OBJ,
  U: ACL_USER,
  g: ACL_GROUP_OBJ,
  G: ACL_GROUP,
  m: ACL_MASK,
  o: ACL_OTHER,
};

/** "u7 U4 g5 m7 o0": tag letters, capital for named ones, whose id is 1000. */
function acl(text: string): AclEntry[] {
  return text.split(" ").map((word) => {
    const tag = TAGS[word[0]!]!;
    const isNamed = word[0] === "U" || word[0] === "G";
    return { tag, perm: Number(word[1]), id: isNamed ? 1000 : NONE };
  });
}

describe("an access control list", () => {
  for (const text of ["u7 g5 o0", "u7 U4 g5 m7 o0", "u7 U4 U5 g5 G1 G2 m7 o0", "u7 g5 m1 o0"]) {
    test(`${text} is valid, and the same in both forms`, () => {
      expect(() => checkAcl(acl(text))).not.toThrow();
      expect(aclFromDisk(aclToDisk(acl(text)), "here")).toEqual(acl(text));
      expect(aclFromUser(aclToUser(acl(text)))).toEqual(acl(text));
    });
  }

  for (const [text, why] of [
    ["u7 g5", "nothing for others"],
    ["g5 o0", "nothing for the owner"],
    ["u7 o0", "nothing for the group"],
    ["u7 u7 g5 o0", "the owner twice"],
    ["u7 g5 U4 m7 o0", "another order"],
    ["u7 U4 g5 o0", "somebody by name but no mask"],
    ["u9 g5 o0", "more than three permissions"],
    ["u7 g5 o0 m7", "a mask behind the others"],
  ] as const) {
    test(`with ${why} is not valid`, () => {
      expect(() => checkAcl(acl(text))).toThrow(expect.objectContaining({ code: "EINVAL" }));
    });
  }

  test("without mask and names says what a mode says", () => {
    expect(isPlainAcl(acl("u7 g5 o1"))).toBe(true);
    expect(isPlainAcl(acl("u7 g5 m5 o1"))).toBe(false);
    expect(modeWithAcl(0o100000, acl("u7 g5 o1")).toString(8)).toBe("100751");
  });

  test("shows its mask in the group bits of the mode", () => {
    expect(modeWithAcl(0o104777, acl("u6 U7 g7 m4 o0")).toString(8)).toBe("104640");
  });

  test("follows chmod in its mask, not in its group", () => {
    expect(aclWithMode(acl("u7 U7 g7 m7 o7"), 0o640)).toEqual(acl("u6 U7 g7 m4 o0"));
    expect(aclWithMode(acl("u7 g7 o7"), 0o640)).toEqual(acl("u6 g4 o0"));
  });
});

describe("a new inode", () => {
  test("in a directory without a default list obeys the umask", () => {
    const made = inheritAcl(undefined, 0o100666, 0o022, "other");
    expect(made).toEqual({ mode: 0o100644, access: undefined, initial: undefined });
  });

  test("in one with a default list does not, and gets the list cut to its mode", () => {
    const initial = acl("u7 U7 g7 m7 o7");
    const file = inheritAcl(initial, 0o100640, 0o077, "other");
    expect(file).toEqual({ mode: 0o100640, access: acl("u6 U7 g7 m4 o0"), initial: undefined });
    const dir = inheritAcl(initial, 0o040755, 0o077, "directory");
    expect(dir).toEqual({ mode: 0o040755, access: acl("u7 U7 g7 m5 o5"), initial });
  });

  test("gets no list that says no more than its mode", () => {
    const made = inheritAcl(acl("u7 g5 o0"), 0o100666, 0, "other");
    expect(made).toEqual({ mode: 0o100640, access: undefined, initial: undefined });
  });

  test("that is a symlink keeps its mode", () => {
    const made = inheritAcl(acl("u7 g5 o0"), 0o120777, 0o077, "symlink");
    expect(made).toEqual({ mode: 0o120777, access: undefined, initial: undefined });
  });
});
