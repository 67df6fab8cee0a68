//! Sections that are the same in every report, but for one sentence.

/// What no check excludes, with or without a copy of the registry of logs.
pub(super) fn limits(registry: bool, out: &mut String) {
    out.push_str(LIMITS);
    out.push_str(if registry { WITH_REGISTRY } else { WITHOUT_REGISTRY });
    out.push_str("</dl>\n</section>\n");
}

const WITH_REGISTRY: &str = r#"<dt>Other gateways</dt><dd>Each gateway writes a ledger of its own; this pack is of one. It has a copy of the registry of all ledgers (<code>registry/</code>). Verified together with the packs of the others, and with the registry's key from elsewhere, it shows whether one is missing or older than it was. A gateway that never joined the registry, and whose pack nobody shows, is not seen.</dd>
"#;

const WITHOUT_REGISTRY: &str = r#"<dt>Other gateways</dt><dd>Each gateway writes a ledger of its own; this pack is of one, and has <strong>no copy of a registry of all ledgers</strong>. So it cannot be excluded that there are other gateways whose packs were left out, nor, without witnesses, that this ledger was put back to an earlier state. Ask whether there is a registry, and for its key.</dd>
"#;

const LIMITS: &str = r#"<section id="limits" aria-labelledby="limits-title">
<h2 id="limits-title">What no check excludes</h2>
<p>Checks find what was changed, left out or put in after it was written. Some things they cannot find, and a reader should know which.</p>
<dl class="words">
<dt>Without witnesses</dt><dd>Whoever held all keys of the ledger from its beginning could have written the whole of it anew. Independent witnesses, who keep the last root they saw, exclude that up to what they saw. Ask who they are and get their roots from them, not from this pack.</dd>
<dt>Past the gateway</dt><dd>The ledger is complete for what goes through the gateway. Whoever reaches a resource in another way is not in it. That the resource accepts nobody else is a matter of its accounts and its network; its own log, compared with the sessions here (control <code>no-bypass</code>), shows where it was otherwise.</dd>
<dt>At the moment of writing</dt><dd>Entries are made by the gateway's program. A changed program could write something untrue at the time. Population P09 names version and configuration of each start; that the program was the released one is to be checked where it runs.</dd>
<dt>The last moments</dt><dd>Entries behind the last root are not in this pack. What was lost with a host's power within the last milliseconds is stated as the loss window in P09; it concerns reads only.</dd>
<dt>Names</dt><dd>People and agents are who their identity provider said they were. The pack proves which token's name was used, not who sat at the keyboard.</dd>
"#;

pub(super) const CHECK: &str = r#"<section id="check" aria-labelledby="check-title">
<h2 id="check-title">How to check it</h2>
<p>Nothing here needs a network. What must come from elsewhere, never from the pack: the ledger's two keys (the <em>roots</em>), and who the witnesses are, if there are any.</p>
<ol class="ways">
<li><strong>With the tool.</strong> It derives everything again from the entries and compares it, byte for byte. It says PASS, FAIL or INCONCLUSIVE for each check, and names the first wrong entry.
With several gateways, give it the packs of all and the registry's key (<code>--registry-key</code>).
<pre><code>chancery evidence verify PACK --roots roots.txt --explain</code></pre></li>
<li><strong>With files of Python</strong> that share no code with the tool, and are short enough to be read. Copies are in the pack; take your own.
<pre><code>python3 verify.py PACK --roots roots.txt</code></pre></li>
<li><strong>By hand.</strong> Whether the files are those that the list names, and whether one entry has the hash that the tree has. <code>README.txt</code> goes through it step by step.
<pre><code>tar xf PACK &amp;&amp; cd pack &amp;&amp; sha256sum -c SHA256SUMS</code></pre></li>
</ol>
</section>
"#;

pub(super) const GLOSSARY: &str = r#"<section id="words" aria-labelledby="words-title">
<h2 id="words-title">Words</h2>
<dl class="words">
<dt>Actor</dt><dd>Who acts for a principal: a pipeline, an agent, an agent of an agent. All of them are in each entry.</dd>
<dt>Approval</dt><dd>A reviewer's yes to one command, as it stands, for one execution. <em>Signed</em>: by a key that only the reviewer has. <em>Stepped up</em>: after a fresh login. <em>Clicked</em>: the gateway says so.</dd>
<dt>Control</dt><dd>A question to the whole of the ledger with one answer: it holds, or here are the exceptions.</dd>
<dt>Effect</dt><dd><em>read</em>: proven to change nothing. <em>write</em>: everything else.</dd>
<dt>Entry</dt><dd>One line of the ledger. Its number is its place, and it is never changed. When its time is over it may be <em>pruned</em>: its fingerprint takes its place, and another entry says so.</dd>
<dt>Exception</dt><dd>An item for which a control does not hold.</dd>
<dt>Ledger</dt><dd>The list of everything the gateway ruled on and did, in order, each entry tied to all before it.</dd>
<dt>Masked</dt><dd>A value that was replaced before it left the gateway. The original is in none of these files.</dd>
<dt>Population</dt><dd>All items of one kind in the period.</dd>
<dt>Principal</dt><dd>Who is accountable: the person or service whose token opened the session.</dd>
<dt>Root</dt><dd>A fingerprint of the whole ledger up to an entry. If one character of one entry were another, it would be another.</dd>
<dt>Rule set</dt><dd>The rules in force at a time, named by their fingerprint.</dd>
<dt>Witness</dt><dd>Somebody else's program that signs a root only if it grew out of the one it saw before.</dd>
</dl>
</section>
"#;
