import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.jackrabbit.oak.api.Blob;
import org.apache.jackrabbit.oak.api.PropertyState;
import org.apache.jackrabbit.oak.api.Type;
import org.apache.jackrabbit.oak.spi.state.NodeState;

/**
 * The content digest of a tree, which does not depend on how it is stored; tarfailover's is the same.
 *
 * <p>SHA-256 over {@code node}, with big-endian numbers, {@code str} = u32 length and UTF-8, and
 * properties and children sorted by name in UTF-16 order:
 *
 * <pre>node  = 'N' prop* ('C' str(name) node)* 'E'
 *prop  = 'P' str(name) u32(type tag) u8(is array) u32(count) value*
 *value = BINARY: u64 length, bytes; all others: str(the value as text)</pre>
 */
final class ContentDigest {
  private static final int PIECE = 1 << 16;

  private final MessageDigest digest = MessageDigest.getInstance("SHA-256");
  private long nodes;
  private long properties;
  private long blobBytes;

  private ContentDigest() throws Exception {}

  private static final class Open {
    final NodeState node;
    final Iterator<String> children;

    Open(NodeState node) {
      this.node = node;
      TreeSet<String> names = new TreeSet<>();
      node.getChildNodeNames().forEach(names::add);
      children = names.iterator();
    }
  }

  /** Walks without recursion: a tree may be as deep as it likes. */
  static ContentDigest of(NodeState top) throws Exception {
    ContentDigest made = new ContentDigest();
    Deque<Open> open = new ArrayDeque<>();
    open.push(made.begin(top));
    while (!open.isEmpty()) {
      Open current = open.peek();
      if (current.children.hasNext()) {
        String name = current.children.next();
        made.digest.update((byte) 'C');
        made.text(name);
        open.push(made.begin(current.node.getChildNode(name)));
      } else {
        made.digest.update((byte) 'E');
        open.pop();
      }
    }
    return made;
  }

  private Open begin(NodeState node) throws IOException {
    nodes++;
    digest.update((byte) 'N');
    TreeMap<String, PropertyState> sorted = new TreeMap<>();
    for (PropertyState each : node.getProperties()) {
      sorted.put(each.getName(), each);
    }
    for (PropertyState each : sorted.values()) {
      property(each);
    }
    return new Open(node);
  }

  private void property(PropertyState property) throws IOException {
    properties++;
    digest.update((byte) 'P');
    text(property.getName());
    number(property.getType().tag());
    digest.update((byte) (property.isArray() ? 1 : 0));
    number(property.count());
    for (int i = 0; i < property.count(); i++) {
      if (property.getType().tag() == Type.BINARY.tag()) {
        blob(property.getValue(Type.BINARY, i));
      } else {
        text(property.getValue(Type.STRING, i));
      }
    }
  }

  private void blob(Blob blob) throws IOException {
    digest.update(ByteBuffer.allocate(8).putLong(blob.length()).array());
    byte[] piece = new byte[PIECE];
    long read = 0;
    try (InputStream in = blob.getNewStream()) {
      for (int n = in.read(piece); n >= 0; n = in.read(piece)) {
        digest.update(piece, 0, n);
        read += n;
      }
    }
    if (read != blob.length()) {
      throw new IOException("a binary of " + blob.length() + " bytes ends after " + read);
    }
    blobBytes += read;
  }

  private void text(String text) {
    byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
    number(bytes.length);
    digest.update(bytes);
  }

  private void number(int value) {
    digest.update(ByteBuffer.allocate(4).putInt(value).array());
  }

  Map<String, Object> told() {
    StringBuilder hex = new StringBuilder();
    for (byte each : digest.digest()) {
      hex.append(String.format("%02x", each));
    }
    Map<String, Object> told = new LinkedHashMap<>();
    told.put("nodes", nodes);
    told.put("properties", properties);
    told.put("blobbytes", blobBytes);
    told.put("sha256", hex);
    return told;
  }
}
