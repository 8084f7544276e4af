import java.io.ByteArrayInputStream;
import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import org.apache.jackrabbit.oak.api.PropertyState;
import org.apache.jackrabbit.oak.api.Type;
import org.apache.jackrabbit.oak.plugins.memory.PropertyStates;
import org.apache.jackrabbit.oak.segment.SegmentNodeStore;
import org.apache.jackrabbit.oak.spi.state.NodeBuilder;
import org.apache.jackrabbit.oak.spi.state.NodeState;

/**
 * The edits of one commit, as words; a word {@code ;} ends each.
 *
 * <pre>node PATH
 *set PATH NAME TYPE one|many VALUE...
 *unset PATH NAME
 *remove PATH
 *copy PATH TO          TO must not exist
 *move PATH TO</pre>
 *
 * <p>Nodes on the way to a path are made. Names in a path hold no slash; BINARY values are base64.
 */
final class Edits {
  private final SegmentNodeStore nodes;
  private final NodeBuilder root;

  Edits(SegmentNodeStore nodes, NodeBuilder root) {
    this.nodes = nodes;
    this.root = root;
  }

  static List<String> names(String path) {
    List<String> names = new ArrayList<>();
    for (String name : path.split("/")) {
      if (!name.isEmpty()) {
        names.add(name);
      }
    }
    return names;
  }

  void apply(List<String> words) throws Exception {
    int start = 0;
    for (int at = 0; at < words.size(); at++) {
      if (words.get(at).equals(";")) {
        edit(words.subList(start, at));
        start = at + 1;
      }
    }
    if (start != words.size()) {
      throw new IllegalArgumentException("the last edit has no end");
    }
  }

  private void edit(List<String> words) throws Exception {
    String path = words.get(1);
    switch (words.get(0)) {
      case "node":
        at(path);
        break;
      case "set":
        List<String> values = words.subList(5, words.size());
        at(path).setProperty(property(words.get(2), words.get(3), words.get(4), values));
        break;
      case "unset":
        at(path).removeProperty(words.get(2));
        break;
      case "remove":
        existing(path).remove();
        break;
      case "copy":
        parent(words.get(2)).setChildNode(name(words.get(2)), existing(path).getNodeState());
        break;
      case "move": // not moveTo, which notes the old path in a property for the commit hooks
        NodeState moved = existing(path).getNodeState();
        existing(path).remove();
        parent(words.get(2)).setChildNode(name(words.get(2)), moved);
        break;
      default:
        throw new IllegalArgumentException("no edit is called " + words.get(0));
    }
  }

  private NodeBuilder at(String path) {
    NodeBuilder node = root;
    for (String name : names(path)) {
      node = node.child(name);
    }
    return node;
  }

  private NodeBuilder existing(String path) {
    NodeBuilder node = root;
    for (String name : names(path)) {
      node = node.getChildNode(name);
    }
    if (!node.exists()) {
      throw new IllegalArgumentException("there is no " + path);
    }
    return node;
  }

  private NodeBuilder parent(String path) {
    return at(path.substring(0, path.lastIndexOf('/')));
  }

  private static String name(String path) {
    return path.substring(path.lastIndexOf('/') + 1);
  }

  private PropertyState property(String name, String type, String count, List<String> texts)
      throws Exception {
    List<Object> values = new ArrayList<>();
    for (String text : texts) {
      values.add(value(type, text));
    }
    if (count.equals("many")) {
      return PropertyStates.createProperty(name, values, type(type, true));
    }
    return PropertyStates.createProperty(name, values.get(0), type(type, false));
  }

  private Object value(String type, String text) throws Exception {
    switch (type) {
      case "BINARY":
        return nodes.createBlob(new ByteArrayInputStream(Base64.getDecoder().decode(text)));
      case "LONG":
        return Long.valueOf(text);
      case "DOUBLE":
        return Double.valueOf(text);
      case "BOOLEAN":
        return Boolean.valueOf(text);
      case "DECIMAL":
        return new BigDecimal(text);
      default:
        return text;
    }
  }

  /** The constant of Oak's with that name; an array's has an S behind it, or IES for Y. */
  private static Type<?> type(String name, boolean many) throws Exception {
    String plural = name.endsWith("Y") ? name.substring(0, name.length() - 1) + "IES" : name + "S";
    return (Type<?>) Type.class.getField(many ? plural : name).get(null);
  }
}
