import java.io.ByteArrayInputStream;
import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import org.apache.jackrabbit.oak.api.Type;
import org.apache.jackrabbit.oak.segment.SegmentNodeStore;
import org.apache.jackrabbit.oak.spi.state.NodeBuilder;

/**
 * Content as a repository has it, the same for the same options in each release of Oak.
 *
 * <p>{@code seed}; {@code nodes} (100); {@code kib}, the size of every twentieth node's binary (0:
 * none); {@code batch}, nodes in a commit (100); {@code times}, how often all of that is repeated
 * with the next seed (1): many a commit for somebody who looks on.
 */
final class Filling {
  private static final int LETTERS = 26;

  private final SegmentNodeStore nodes;
  private final Random random;

  private Filling(SegmentNodeStore nodes, long seed) {
    this.nodes = nodes;
    this.random = new Random(seed);
  }

  static void fill(SegmentNodeStore nodes, OakPeer.Words words) throws Exception {
    int seed = words.number("seed", 1);
    for (int time = 0; time < words.number("times", 1); time++) {
      new Filling(nodes, seed + time).run("run" + (seed + time), words);
    }
  }

  private void run(String name, OakPeer.Words words) throws Exception {
    int count = words.number("nodes", 100);
    int batch = words.number("batch", 100);
    for (int done = 0; done < count; ) {
      NodeBuilder root = nodes.getRoot().builder();
      NodeBuilder top = root.child("content").child(name);
      NodeBuilder wide = root.child("wide");
      int end = Math.min(count, done + batch);
      for (; done < end; done++) {
        page(top.child("part" + done / 40).child("page" + done), done, words.number("kib", 0));
        wide.child(name + "-" + done).setProperty("at", (long) done);
      }
      OakStore.merge(nodes, root);
    }
  }

  private void page(NodeBuilder page, int number, int kib) throws Exception {
    page.setProperty("jcr:primaryType", "nt:unstructured", Type.NAME);
    if (number % 5 == 0) {
      page.setProperty("jcr:mixinTypes", Collections.singletonList("mix:title"), Type.NAMES);
    }
    page.setProperty("title", text(4 + random.nextInt(30)));
    page.setProperty("order", random.nextLong());
    page.setProperty("hidden", random.nextBoolean());
    page.setProperty("weight", random.nextInt(1000) / 8.0);
    page.setProperty("price", new BigDecimal(random.nextInt(100000)).movePointLeft(2));
    page.setProperty("changed", "2026-11-29T08:30:00.000+01:00", Type.DATE);
    page.setProperty("tags", tags(number % 4), Type.STRINGS);
    if (number % 10 == 3) {
      page.setProperty("text", text(200 + random.nextInt(4000)));
    }
    if (number % 50 == 7) {
      page.setProperty("essay", text(20000 + random.nextInt(9000)));
    }
    if (number % 9 == 2) {
      page.setProperty("icon", blob(10 + random.nextInt(5000)));
    }
    if (kib > 0 && number % 20 == 0) {
      page.setProperty("photo", blob(kib * 1024 + random.nextInt(1000)));
    }
  }

  private org.apache.jackrabbit.oak.api.Blob blob(int length) throws Exception {
    byte[] bytes = new byte[length];
    random.nextBytes(bytes);
    return nodes.createBlob(new ByteArrayInputStream(bytes));
  }

  private List<String> tags(int count) {
    List<String> tags = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      tags.add(text(8));
    }
    return tags;
  }

  private String text(int length) {
    StringBuilder text = new StringBuilder();
    for (int i = 0; i < length; i++) {
      int kind = random.nextInt(50);
      text.append((char) (kind > 1 ? 'a' + random.nextInt(LETTERS) : kind == 0 ? 0xe9 : 0x4e2d));
    }
    return text.toString();
  }
}
